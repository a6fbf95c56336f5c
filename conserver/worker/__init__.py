"""The worker process: claims items, runs their links, stores them and settles them.

Begin with item.py: the life of an item, step by step, and which module does each step. Then read
loop.py, the main thread, which owns the connection to Redis; parts.py shows how the modules depend
on each other. By subject:

    lists, and in which order   routes.py
    prefetch, backpressure      intake.py, prefetch.py, held_items.py
    rates of chains and links   rates.py, throttles.py
    idle workers, wakeups       claim_schedule.py
    chains, links, checkpoints  chain.py, link_context.py, checkpoint.py; threads: pool.py,
                                work_queue.py, inbox.py
    settle, park, dead-letter   outcomes.py decides, outbox.py sends, settlement.py, conflicts.py;
                                departures.py tells of it, also of dead letters of a claim
    storages                    writers.py, breaker.py; look-ups: document_loader.py
    jobs, stories               job_hints.py, story.py; their callbacks: notifiers.py
    metrics, traces             meters.py, spans.py
"""
