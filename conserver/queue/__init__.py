"""The queue: where an item is in Redis, and the scripts that move it.

At every moment an item is in exactly one of these places: its ingress list, returned, suspects, in
flight with one consumer, parked, a dead letter, or settled. Every Lua script moves items from one
place to another in one step. Begin with calls.py, which has a function for each script of workers,
and with prelude.lua, which has the rules for scripts and the form of a record.

    key                             type    holds
    <list>                          list    what producers push: a uuid, <uuid>#<job>, or a whole
                                            vCon (begins with "{")
    conserver:returned:<list>       list    claimed before <list>: records that came back, and
                                            payloads that a list waiter has moved here
    conserver:suspects:<list>       list    records of items that may have killed a worker; each
                                            runs alone
    conserver:parked:<list>         zset    due time in ms -> record that waits until then (a retry,
                                            a storage that is away, a rate limit, a submission for
                                            later)
    DLQ:<list>                      list    dead letters as bare payloads, which other tools can
                                            replay
    conserver:dead:<list>           zset    time in ms -> the reason, as one line of JSON, and the
                                            record; deleted by age
    conserver:inflight:<consumer>   hash    token -> record, of what a consumer has claimed and not
                                            settled, of all lists
    conserver:strange:<consumer>    hash    fields of that hash that are no records; moved here when
                                            the consumer has died
    conserver:host:<id>             hash    "beat", the status fields (coordinator/host_status.py);
                                            "consumer:<id>" -> number of its last claim, or "void";
                                            "suspect" -> "<consumer> <token>" that the host runs
    conserver:hosts                 set     the ids of all living supervisors
    conserver:lists                 set     all lists that were ever claimed from. Coordinators work
                                            on these, not only on those of their configuration
    conserver:cancelled:<consumer>  set     tokens of running items that an operator has cancelled
    conserver:gone:<consumer>       string  its registration was deleted: for an hour it cannot be
                                            registered again, by a late call of its own
    conserver:control               hash    "paused:<list>" -> since when, in ms, and who;
                                            "recycle:<host>:<slot>" -> the consumer to replace;
                                            "throttled" -> lines "<until, ms> <link>": links that
                                            nobody calls now
    conserver:incoming:<job>        string  a large document until submit.lua moves it to its key
    conserver:waiting               hash    list -> JSON: elements that were its last ones at known
                                            times, for the age of the oldest (waiting.lua)
    conserver:audit                 list    JSON: the last 1000 operations that changed something
    conserver:job:<job>             hash    a job: a submission that somebody follows. status
                                            (queued, waiting, processing; at the end completed,
                                            filtered, cancelled, failed), seq (rises with every
                                            change), uuid, list, created_ms, updated_ms, link,
                                            progress, attempts, retry_at_ms, error, keep_s and max_s
                                            (how long it is kept after its end, and at most), its
                                            callback, and what the submitter added
    conserver:notifications            list    an ingress list of our own: what is to be told to the
                                            callbacks of jobs that have ended, as JSON; pushed by
                                            the script that ends the item of the job
    conserver:jobs                  zset    time of creation in ms -> job, the newest 100,000
    conserver:story:<uuid>          zset    time of the claim in ms -> JSON: an attempt at an item,
                                            as its worker tells it (stories.py); the newest 32
    conserver:events:<job>          channel a message "<seq> <status>" for every change
    conserver:schedule:<name>       hash    "fired:<cron> <time zone>" -> its latest time in ms;
                                            paused, wanted; the run (run, host, lease_ms, cursor)
                                            and how the last one ended
    conserver:open:<token>          zset    when its hash expires in any case, in ms -> a job that
                                            has not ended; of tokens with a limit of jobs at once
    conserver:spent:<token>         hash    window (a day), count: the bytes that it has sent on it;
                                            of tokens with a limit of bytes per day
    conserver:submitted:<token>     hash    window (a minute), count: the jobs submitted in it; of
                                            tokens with a limit of jobs per minute
    conserver:rate:<name>           string  when the next slot of a chain's or link's rate is free
    vcon:<uuid>                     string  the document; or RedisJSON, and it stays that
    conserver:revision:<uuid>       hash    revision and length of the document as Conserver wrote
                                            it, the revision that each chain wrote last, the ETags
                                            of the storages

A call that is about an item carries the item's token and the epoch of its claim. It has an effect
only if the consumer's in-flight hash holds this token with this epoch (the fence). Otherwise the
item was given to another worker meanwhile, and the call does nothing.

    keys.py                 the names of all keys
    calls.py                the scripts that workers call, one function each
    host_calls.py           those that coordinators call
    operator_calls.py       those that commands and the API call
    limits.py               the same for rates, throttled links and tokens
    script.py               loads a script; a call as plain data
    record.py               a claimed item, and the progress that its record carries
    clients.py              connections for the Redis URLs (TLS, sockets, Sentinel)
    retrying_connection.py  a worker's connection: it repeats a call until it is answered
    elements.py             the elements of a key, page by page, for commands
    names.py                the one name of an item, in logs and for every command
    lookup.py               known lists, hosts and consumers; which job an element is of
    jobs.py                 a job, as its hash shows it
    history.py              the recent past of each list, in rings of points
    stories.py              the attempts at an item, as workers tell them
    schedules.py            what Redis knows of a schedule; its two scripts
    dead_letters.py         dead letters for commands: list, requeue, purge
    cancellation.py         cancels a vCon wherever it is
    wishes.py               what operators ask for, also of a Redis that is full
    wrong_type.py           the type that each key must have, and logging keys that have another
"""
