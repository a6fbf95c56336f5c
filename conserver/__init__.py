"""Conserver takes vCons from Redis lists through chains of links into storages, and loses none.

docs/architecture.md describes the packages (called wings there) and which of them may import which.
The modules for each subject (paths are below conserver/; `storage` is the package beside it):

    how much is claimed    For each chain, worker/prefetch.py estimates from measured durations how
                           many items its threads finish in 100 ms, but at least one per idle
                           thread that may run the chain; worker/rates.py lowers the number for
                           rates and throttled links.
                           worker/intake.py asks for that number. A claim has at most 128 items and
                           about 4 MiB (queue/calls.py; a byte of a pushed document counts as
                           four); a worker holds at most 256 items and about 64 MiB
                           (worker/held_items.py). The last item may exceed the bytes
    links, checkpoints     worker/chain.py, one item in one thread
    storing                worker/outcomes.py, then worker/writers.py (one thread per storage), then
                           <name>.py of the package `storage`
    the end of an item     worker/outcomes.py decides; worker/outbox.py calls queue/settle.lua, or
                           queue/move.lua to park or dead-letter the item
    dead letters           below, by reason
    idle workers           below, step by step
    stalls, time limits    Twice a second supervisor/watchdog.py reads each child's shared status
                           (process/shared_status.py). It kills a child whose main loop has not
                           beaten for CONSERVER_STALL_TIMEOUT_S (60 s). While a child starts, the
                           longer of this and of the boot timeout counts. It also kills a worker
                           with an item past its hard_timeout_s (default: none), and sooner a worker
                           that stands still while several links run. The docstrings in watchdog.py
                           tell the details. After the kill: "A killed worker" below
    a killed worker        below, step by step
    secrets in output      telemetry/redact.py removes them. It is called mainly by these:
                           - telemetry/log.py, for every line of the log;
                           - cli/output.py and tables.py, for what commands print;
                           - worker/ (item, story, chain, outbox, outcomes, writers), for what a
                             worker leaves in Redis;
                           - queue/jobs.py and operations/, for errors that they read from Redis;
                           - http/, for answers; telemetry/otel.py, for spans.
                           `grep -rn redact conserver` finds the other places
    a new command          operations/<name>.py reads or changes Redis, cli/<name>.py declares it
                           and prints (with cli/arguments.py, output.py, tables.py; watching.py if
                           live), and the table COMMANDS of cli/app.py names it.
                           tests/unit/operations/ and tests/integration/test_commands*.py test it,
                           docs/operations.md describes it. cli/status.py with
                           operations/overview.py is a good model

The words that the code uses:

    item              one element of an ingress list: a vCon on its way through a chain
    payload           the element as a producer pushed it: a uuid, or a whole document. Once the
                      document is written to Redis, the payload is its uuid
    document          the vCon's JSON, in Redis at `vcon:<uuid>`; its revision rises with each write
    record            an item as Redis holds it after its first claim: a header, the state and the
                      payload
    state             the part of a record that says which links are done, which storages must still
                      be written (`owed`), and how many attempts there were
    claim             taking items from lists into the consumer's in-flight hash, in one script
    consumer          the id under which one worker process claims; every process gets a new one
    token             an item's id, given at the first claim and kept for life. (An API token is
                      another thing: the secret that a caller of the HTTP API sends)
    epoch             the number of the claim that took an item; Redis ignores a call for the item
                      that names another epoch (fencing)
    checkpoint        a write of the document and the state to Redis, so that finished links do not
                      run again
    settle            end an item: one script removes it and pushes its uuid to the egress lists
    job               a submission through the API or `conserver submit`, with its status and result
    story             the events of each attempt at an item, as `conserver where` shows them
    filtered          said of an item for which a link returned None: it is settled, and goes to no
                      storage and no egress list
    park              set an item aside until a time: for a retry, a rate, an unavailable storage or
                      a key of the wrong type
    return            move the items of a consumer, which no longer works on them, to `returned` or
                      `suspects`
    returned          a list in Redis beside each ingress list. Claims take from it first. It has
                      the items that came back, and new items that a list waiter moved there while a
                      worker was idle
    suspect           an item that may have killed its worker; it runs alone from then on
    blame             say which items may have caused a worker's death; these become suspects
    death             the end of a worker by a crash or a kill. It is counted for an item only if
                      the item was a suspect that ran alone, or was over its time limit. An item
                      with `max_deliveries` counted deaths is dead-lettered
    dead letter       an item that Conserver has given up, with the reason; `conserver dlq` shows
                      and requeues dead letters
    host              one supervisor and its children; a machine may run several
    supervisor        the process that starts, watches and replaces the others; it talks to the
                      coordinator, which talks to Redis
    coordinator       the process per host for registrations, wakeups, timers and dead hosts
    lease             the time without a heartbeat after which a host counts as dead
    worker loop       a worker's main thread: the only one that talks to Redis (except for modules
                      of vcon-server, see plugins/compat/old_redis.py)
    chain thread      a thread of a worker that runs the links of one item at a time
    shared status     shared memory in which a child shows its progress and its items
    child slot        the supervisor's place for one child process; a replacement gets the same slot
    status slot       the place of one item in the shared status
    rate slot         a moment that was reserved for an item under the rate of its chain or link
    registration      a consumer's field in the hash of its host in Redis; it is `void` from the
                      moment at which Redis begins to return the consumer's items

Dead letters, by reason. One Lua function writes them all: `dead_letter` in queue/prelude.lua.

    failed               the item's links raised more than `retries` exceptions in all, or one
                         raised Retry and the item is older than `give_up_s`; worker/outcomes.py
    rejected             a link raised Rejected, or returned something that is neither its vCon nor
                         None; the document cannot be used, or a link has made it too large:
                         worker/chain.py finds all these cases, outcomes.py decides. Also: a
                         storage or RedisJSON refuses the document (outcomes.py, outbox.py); two
                         chains changed it in ways that cannot be merged, or it changed more than 50
                         times while the item was processed (conflicts.py); the record cannot be
                         read (intake.py); the URL to which the item's job must deliver its result
                         has expired before the item could begin (refusals.py)
    unavailable          a storage is away that must store the document, or from which a document
                         that Redis lacks is read, and the item is older than `give_up_s`;
                         outcomes.py. (A checkpoint that cannot be written counts as a Retry of the
                         link before it: "failed")
    poison, time_limit   `max_deliveries` deaths were counted for the item; worker/refusals.py
    oversized            the pushed document is larger than CONSERVER_MAX_PAYLOAD_BYTES; refusals.py

worker/intake.py asks refusals.py before an item begins. For all reasons worker/outbox.py calls
queue/move.lua.

An idle worker, step by step:

1. worker/claim_schedule.py: if a claim leaves no item on the lists that it asked for, and a chain
   thread is free, the worker sends "I" (idle) to its coordinator (process/wakeup.py has the
   messages).
2. coordinator/list_waiters.py: while a worker of the host is idle, one BLMOVE per list waits in
   Redis. A producer's push ends it: the item is in `conserver:returned:<list>` now.
3. coordinator/idle_workers.py sends "W" (wake) to one idle worker, which claims, from `returned`
   first. If it leaves items behind, the next idle worker is woken.
4. A lost message only delays an item: every worker also claims once per TICK_INTERVAL (1 s).

A link's change, step by step, until it is a row in PostgreSQL:

1. worker/chain.py: after the last link the chain thread dumps the vCon to JSON.
2. worker/outcomes.py notes the storages as `owed`; worker/outbox.py writes document and state to
   Redis in one script (queue/write.lua), which gives the document its next revision. If somebody
   wrote it meanwhile, worker/conflicts.py merges.
3. worker/writers.py: the storage's thread takes what waits, at most 256 documents and 8 MiB.
4. storage/postgres.py upserts them in one statement; a row with a newer revision stays as it is.
5. When all storages have stored it, queue/settle.lua ends the item and pushes its uuid on.

A checkpoint is only the write of step 2, without storages that are owed. It follows each link, but
the last one, that is costly or took over a second.

A killed worker, step by step (kill -9 while an item is in a link):

1. supervisor/supervisor.py: the pidfd of the child becomes readable, and the main loop reaps it.
2. supervisor/death.py: `blame` reads the child's shared status. It blames these items:
   - those in a link;
   - those whose document is being parsed, or whose large document the worker reads from Redis;
   - those that wait until a checkpoint is written, and those whose links are done and that are
     being written, stored or settled.
   It does not blame items that wait for a chain thread.
3. supervisor/orders.py: the supervisor queues a `return` order with the blamed tokens and epochs,
   and sends it to the coordinator. If the coordinator dies before it acknowledges the order, the
   next coordinator gets the order.
4. coordinator/registry.py calls queue/return.lua until the dead consumer holds no item.
5. queue/return.lua makes the registration void, so that late claims of the dead worker are refused.
   It moves blamed items, and those that were suspects before, to `conserver:suspects:<list>`, ends
   cancelled items, and moves all other items to `conserver:returned:<list>`. It counts the death
   for a suspect that had begun, and for an item over its time limit. When the consumer holds no
   item, the script deletes its registration; for an hour the same id cannot be registered again.
6. coordinator/idle_workers.py wakes an idle worker, which claims the returned items. As long as
   items remain in `returned`, it wakes one idle worker after another (list_waiters.py asks it to).
   When the backoff of the slot is over (there is none after a first death), the supervisor orders a
   new consumer id, the coordinator registers it, and the supervisor starts the replacement.
7. coordinator/suspects.py: only a worker that holds no item may claim a suspect. If all workers
   hold items, the coordinator orders one worker to finish its items and to claim no others.
8. queue/claim.lua gives the suspect to that worker alone; worker/intake.py marks the suspect as
   begun (queue/begin.lua) before it runs. If this worker dies, too, step 5 counts that death.
9. A worker that claims an item with `max_deliveries` counted deaths dead-letters it and does not
   begin it (worker/refusals.py). If this worker dies meanwhile, no death is counted. The reason is
   "poison", or "time_limit" if the last worker was killed for the item's time limit. The first
   death, which made the item a suspect, counts only if the item was over its time limit.
10. If the item is not dead-lettered, worker/chain.py does not repeat the links that the last
    checkpoint contains, and worker/outcomes.py writes only to the storages that the item's state
    still has as `owed`.

If the whole host dies, coordinator/reaper.py of another host returns its items when the lease is
over. It blames all of them (`everything`), because no process knows which of them ran.
"""

__version__ = "0.1.0"
