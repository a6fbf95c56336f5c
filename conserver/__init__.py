"""Conserver takes vCons from Redis lists through chains of links into storages, and loses none.

docs/architecture.md describes the packages, and which of them may import which. Paths here are
below conserver/; `storage` is the package beside it.

This page has six parts: where each subject is; the words; the reasons of dead letters; and then,
step by step, an idle worker, a link's change and a killed worker.

Where each subject is:

    how many items a       Per chain, worker/prefetch.py computes how many items the chain's threads
    worker claims          finish in 100 ms, but at least one per free thread. The number is 0 if a
                           claimed item would only wait in the worker. worker/rates.py lowers the
                           number where a rate limit is configured. worker/intake.py makes one claim
                           for all chains. queue/calls.py has the bounds of one claim, and
                           worker/held_items.py those of a worker
    links, checkpoints     worker/chain.py: one item in one thread
    storing                worker/outcomes.py, then worker/writers.py (one thread per storage), then
                           <name>.py of the package `storage`
    the end of an item     worker/outcomes.py decides; worker/outbox.py calls queue/settle.lua, or
                           queue/move.lua to park or dead-letter the item
    stalls, time limits    supervisor/watchdog.py kills a child whose main loop stands still for
                           CONSERVER_STALL_TIMEOUT_S (60 s), and a worker with an item past the
                           hard_timeout_s of its link or chain (default: none). Its docstrings tell
                           the special cases. "A killed worker" below tells what follows. If the
                           kill was for a hard_timeout_s, only the item that exceeded it is blamed
    secrets in output      telemetry/redact.py removes them from what leaves a process: lines of
                           the log, spans, what commands print, HTTP answers and pages, and errors
                           and stories that a worker leaves in Redis. Documents are left as they
                           are. One place hides them in all answers of the API (http/api/hiding.py),
                           one in all pages (`shown` in http/dashboard/templating.py). `grep -rn
                           redact conserver` finds the other calls, `grep -rn hide_everywhere
                           conserver` where a process registers its secrets
    a new command          operations/<name>.py reads or changes Redis; cli/<name>.py declares the
                           command and prints (with arguments.py, environment.py, output.py,
                           tables.py, and watching.py if live); COMMANDS in cli/app.py lists it.
                           Tests: tests/unit/operations/, tests/integration/test_commands*.py.
                           Page: docs/operations.md, with the table of what --json gives.
                           Model: cli/status.py with operations/overview.py

The words that the code uses:

    item              one element of an ingress list: a vCon on its way through a chain
    payload           the element as a producer pushed it: a uuid, or a whole document. Once the
                      document is written to Redis, the payload is its uuid
    document          the vCon's JSON, in Redis at `vcon:<uuid>`; its revision rises with each write
    record            an item as Redis holds it after its first claim: header, state and payload
    state             the part of a record that says which links are done, which storages must still
                      be written (`owed`), and how many attempts there were
    claim             taking items from lists into the consumer's in-flight hash, in one script
    consumer          the id under which one worker process claims; every process gets a new one
    token             an item's id, given at the first claim and kept for life. (An API token is
                      another thing: the secret of a caller of the HTTP API)
    epoch             the number of the claim that took an item; Redis ignores a call for the item
                      that names another epoch (fencing)
    checkpoint        a write of document and state to Redis, so that finished links do not run
                      again
    settle            end an item: one script removes it and pushes its uuid to the egress lists
    job               a submission through the API or `conserver submit`, with its status and result
    story             the events of each attempt at an item, as `conserver where` shows them
    filtered          said of an item for which a link returned None: it is settled, and goes to no
                      storage and no egress list
    park              set an item aside until a time: for a retry, a rate, a server that asked to
                      wait, an unavailable storage, or a key of the wrong type. A submitted item may
                      begin parked, too
    return            move the items of a consumer that no longer works on them to `returned` or
                      `suspects`
    returned          a list beside each ingress list, claimed first: items that came back, and new
                      items that a list waiter moved there
    suspect           an item that may have killed its worker; it runs alone from then on
    blame             say which items may have caused a worker's death; these become suspects
    death             the end of a worker by a crash or a kill. supervisor/death.py tells for which
                      items it is counted
    dead letter       an item that Conserver has given up, with the reason; `conserver dlq` shows
                      and requeues dead letters
    host              one supervisor and its children; a machine may run several
    supervisor        the process that starts, watches and replaces the others
    coordinator       the process per host for registrations, wakeups, timers and dead hosts
    lease             the time without a heartbeat after which a host counts as dead
    worker loop       a worker's main thread: the only one that talks to Redis (except for modules
                      of vcon-server, see plugins/compat/old_redis.py)
    chain thread      a thread of a worker that runs the links of one item at a time
    shared status     shared memory in which a child shows its progress and its items
    child slot        the supervisor's place for one child process and its replacements
    status slot       the place of one item in the shared status
    rate slot         a moment that was reserved for an item under the rate of its chain or link
    registration      a consumer's field in the hash of its host in Redis; `void` as soon as Redis
                      begins to return the consumer's items

Dead letters, by reason. In parentheses: the module in worker/ that tells the cause.

    failed               - the item's links raised more than `retries` exceptions in all; Retry and
                           Rejected do not count (chain.py)
                         - a link raised Retry once `give_up_s` had passed since the item's first
                           claim (chain.py)
                         - a checkpoint or merge could not be written once `give_up_s` had passed
                           (outbox.py)
    rejected             - a link raised Rejected, or returned something that is neither its vCon
                           nor None (chain.py)
                         - the document cannot be used, or a link made it too large (chain.py)
                         - a storage (writers.py), or Redis's module RedisJSON (outbox.py),
                           refuses the document
                         - two chains changed the document in ways that cannot be merged, or it
                           changed more than 50 times while the item was processed (conflicts.py)
                         - the progress in the record cannot be read, or the presigned URL of the
                           job's callback has expired (refusals.py)
    unavailable          `give_up_s` has passed since the item's first claim, and (writers.py)
                         - the item is still owed to a storage that is away; or
                         - Redis has lost its document, and a storage is away that may have a copy
    poison, time_limit   `max_deliveries` deaths were counted for the item (refusals.py)
    oversized            the pushed document exceeds CONSERVER_MAX_PAYLOAD_BYTES (refusals.py)

All take the same way: worker/outcomes.py decides, worker/outbox.py calls queue/move.lua, and one
Lua function, `dead_letter` in queue/prelude.lua, writes the dead letter.

An idle worker, step by step:

1. worker/claim_schedule.py: a claim has emptied the lists that it asked for, and a chain thread is
   free. The worker sends "I" (idle) to its coordinator (messages: process/wakeup.py).
2. coordinator/list_waiters.py: while a worker of the host is idle, one BLMOVE per list waits in
   Redis. A producer's push ends it: the item is in `conserver:returned:<list>` now.
3. The list waiter sends "W" (wake) to one idle worker (coordinator/idle_workers.py), which claims,
   from `returned` first. If items remain there, the list waiter wakes the next idle worker.
4. A lost message only delays an item: every worker with room also claims once per
   TICK_INTERVAL (1 s).

A link's change, step by step, until it is a row in PostgreSQL:

1. worker/chain.py: after the last link the chain thread dumps the vCon to JSON.
2. worker/outcomes.py notes the storages as `owed`. worker/outbox.py writes document and state to
   Redis in one script (queue/write.lua), which gives the document its next revision. If somebody
   wrote it meanwhile, worker/conflicts.py merges, or starts the item anew.
3. worker/writers.py: the storage's thread takes what waits, at most 256 documents and 8 MiB.
4. storage/postgres.py upserts them in one statement; a row with a newer revision stays as it is.
5. When all storages have stored it, queue/settle.lua ends the item and pushes its uuid on.

A checkpoint is the same write as in step 2, but notes no storage as `owed`. It follows each link
that is costly or took over a second, except the last.

A killed worker, step by step (kill -9 while an item is in a link):

1. supervisor/supervisor.py reaps the child when its pidfd becomes readable.
2. supervisor/death.py reads the child's shared status and blames the items that were at work, in a
   link for example. Items that only wait for a chain thread are not blamed.
3. supervisor/orders.py sends a `return` order with the blamed items to the coordinator, and again
   to the next coordinator if this one dies before it acknowledges the order.
4. coordinator/registry.py calls queue/return.lua until the dead consumer holds no item. The script
   - makes the registration void, so that Redis refuses late claims of the dead worker;
   - moves blamed items, and earlier suspects, to `conserver:suspects:<list>`;
   - ends cancelled items, and moves all others to `conserver:returned:<list>`;
   - counts the death only for a suspect that was running alone (step 8), or for an item over its
     time limit. The crash that makes an item a suspect is not counted.
5. For the items in `returned`, coordinator/list_waiters.py wakes the idle workers one at a time,
   until `returned` is empty or each has been woken once. (What is left then is claimed at the
   workers' next ticks.)
6. The coordinator registers a new consumer id, and supervisor/supervisor.py starts a replacement
   that uses it. A backoff delays this only after repeated deaths.
7. For the items in `suspects`, coordinator/suspects.py wakes an idle worker. Only a worker that
   holds no item, and has no storage call that hangs, may claim a suspect, and a host runs one
   suspect at a time. If all workers hold items, the coordinator orders one of them to finish its
   items and to claim no others.
8. queue/claim.lua gives that worker the suspect alone. worker/intake.py marks it as begun
   (queue/begin.lua) and runs it. If this worker dies, too, step 4 counts that death.
9. worker/chain.py continues after the last checkpoint. If the links were done before, only the
   storages that the state still has as `owed` are written (worker/outcomes.py).
10. After `max_deliveries` counted deaths worker/refusals.py dead-letters the item, and no worker
    runs it. Its reason is "time_limit" if the last worker was killed for the item's time limit,
    else "poison".

If the whole host dies, coordinator/reaper.py of another host returns its items after the lease. All
of them are blamed, because no process knows which of them ran.
"""

__version__ = "0.1.0"
