"""Conserver takes vCons from Redis lists through chains of links into storages, and loses none.

docs/architecture.md shows the wings. Where a subject is decided, and where it is done (paths are
below conserver/; `storage` is the package beside it):

    how much is claimed    worker/prefetch.py: what the threads finish in 100 ms, within the bounds
                           of worker/held_items.py and queue/calls.py (BATCH_ITEMS, BATCH_BYTES)
    links, checkpoints     worker/chain.py, one item in one thread
    storing                worker/outcomes.py, then worker/writers.py (one thread per storage), then
                           <name>.py of the package `storage`
    the end of an item     worker/outcomes.py decides, worker/outbox.py sends: queue/settle.lua, and
                           queue/move.lua for parked items and dead letters
    dead letters           worker/outcomes.py decides and queue/move.lua writes them, like every
                           end; queue/claim.lua decides and writes those of items that must not run
                           (poison, time_limit, a pushed document that is too large, a callback that
                           has expired); worker/departures.py logs and counts both kinds
    idle workers           coordinator/list_waiters.py waits in Redis, idle_workers.py wakes a
                           worker; process/wakeup.py says what they send to each other
    stalls, time limits    supervisor/watchdog.py, which reads process/shared_status.py
    a dead worker          below, step by step
    secrets in output      telemetry/redact.py; applied by telemetry/log.py to every line, by
                           cli/output.py and tables.py to what commands print, by worker/item.py to
                           dead letters, by queue/jobs.py and operations/ to stored errors when they
                           are read, by http/api/problems.py to the API's own errors
    a new command          operations/<name>.py finds out or changes, cli/<name>.py prints (with
                           cli/output.py and tables.py; watching.py if live), cli/app.py declares it

The words that the code uses:

    item              one element of an ingress list: a vCon on its way through a chain
    payload           the element as it was pushed: a uuid, or a whole document
    document          the vCon's JSON, in Redis at `vcon:<uuid>`; its revision rises with each write
    record            the form of an item in Redis after its first claim: a header, the state, the
                      payload
    state             in a record: links done, storages owed, attempts
    claim             taking items from lists into the consumer's in-flight hash, in one script
    consumer          the id under which one worker process claims; every process gets a new one
    token             an item's id, given at the first claim and kept for life (what callers of the
                      API show is an API token, another thing)
    epoch             the number of the claim; a call with another epoch has no effect (fencing)
    checkpoint        the document and the state are written to Redis; work up to here is not redone
    settle            the end of an item: removed, its uuid pushed to egress lists, in one script
    job               one submission through the API or `conserver submit`: its status and result
    story             what happened to an item, step by step, as `conserver where` shows it
    filtered          a link returned None: the item is settled without storages and egress
    park              set an item aside until a time: for a retry, or until a storage is back
    return            move the items of a dead consumer to `returned` or `suspects`
    returned          a list in Redis beside each ingress list, from which claims take first: items
                      that came back, and those that a list waiter moved there to wake a worker
    suspect           an item that may have killed its worker; from then on it runs alone
    blame             the items to which a worker's death is attributed; they become suspects
    death             a worker's. It is counted for the suspect that ran alone, or for the item
                      that was over its time limit. With `max_deliveries` counted deaths an item is
                      dead-lettered
    dead letter       an item that was given up, with the reason; `conserver dlq` shows and requeues
    host              one supervisor and its children; a machine may run several
    supervisor        the process that starts, watches and replaces the others; it talks to the
                      coordinator, which talks to Redis
    coordinator       the process per host for registrations, wakeups, timers and dead hosts
    worker loop       a worker's main thread: the only one that talks to Redis
    chain thread      a thread of a worker that runs the links of one item at a time
    shared status     shared memory in which a child shows its progress and its items
    child slot        one place for a child process in the supervisor
    status slot       the place of one item in the shared status
    rate slot         a moment that was reserved for an item under the rate of its chain or link
    registration      a consumer's entry in its host's hash; `void` once its items are returned

A killed worker, step by step (kill -9 while an item is in a link):

1. supervisor/supervisor.py: the pidfd of the child becomes readable, and the main loop reaps it.
2. supervisor/death.py: `blame` reads the child's shared status. It blames the items that are in a
   link, those whose document is being parsed or is read in a call of its own, and those that a
   chain thread has given back (they wait for storages or for their settlement). It blames no item
   that waits for a chain thread.
3. supervisor/orders.py: a `return` order with the blamed tokens and epochs is queued and sent to
   the coordinator; if that dies before it acknowledges the order, to the next one.
4. coordinator/registry.py executes the order by calling queue/return.lua until nothing is left.
5. queue/return.lua: the registration becomes void, so that late claims of the dead worker are
   refused. Blamed items go to `conserver:suspects:<list>`, others to `conserver:returned:<list>`.
   The death is counted for a suspect that had begun. When all items of the consumer are back, its
   registration is deleted; for an hour nobody can register under that id again.
6. coordinator/idle_workers.py wakes an idle worker, which claims what was returned; while items
   remain, the list waiters wake the next one. Then the coordinator registers a new consumer id, as
   the supervisor has ordered, and the supervisor starts the replacement (at once the first time,
   later with backoff).
7. coordinator/suspects.py: a suspect is claimed only by a worker that holds nothing. If all workers
   are busy, one is ordered to finish what it has and to claim nothing else.
8. queue/claim.lua gives the suspect to that worker alone; worker/intake.py marks it as begun
   (queue/begin.lua) before it runs. If the worker dies again, step 5 counts that death.
9. queue/claim.lua dead-letters an item with `max_deliveries` deaths, with the reason "poison",
   or "time_limit" if that was the last cause. The first death, which made it a suspect, was not
   counted. A kill for the item's own time limit counts at once.
10. worker/chain.py does not repeat links that the last checkpoint contains, and worker/outcomes.py
    writes only to the storages that the item still owes.

If the whole host dies, coordinator/reaper.py of another host returns its items after the lease. All
of them are blamed (`everything`), because nobody knows what ran.
"""

__version__ = "0.1.0"
