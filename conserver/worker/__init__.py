"""The worker process: claims items, runs their links, stores them and settles them.

Begin with item.py: it lists the steps of an item's life, and the module that does each step. Then
read loop.py, the main thread, which owns the connection to Redis. parts.py shows how the modules
depend on each other. By subject:

    lists and their order       routes.py
    prefetch, backpressure      intake.py, prefetch.py, held_items.py
    rates of chains and links   rates.py, throttles.py
    idle workers, wakeups       claim_schedule.py
    chains, links, checkpoints  chain.py, link_context.py, checkpoint.py; threads: pool.py,
                                work_queue.py, inbox.py
    settle, park, dead-letter   outcomes.py decides, outbox.py sends, settlement.py, conflicts.py;
                                departures.py logs and counts
    items that must not run     refusals.py
    storages                    writers.py, breaker.py; look-ups: document_loader.py
    jobs, stories               job_hints.py, story.py; callbacks of jobs: notifiers.py
    metrics, traces             meters.py, spans.py
"""
