"""Everything that an operator can query or change, as functions and data.

The commands, the HTTP API and the dashboard all use this package: they read arguments, call a
function here and show its result. Nothing here prints, exits, or reads arguments or the
environment. Begin with overview.py (what `conserver status` shows).

Functions take a blocking Redis client that decodes nothing (connection.py) and plain values, and
return frozen dataclasses. A function that changes something takes `actor`, the name of the user who
asked for it, and adds one entry to the audit list (audit.py). Long work is a generator that yields
its progress; the caller stops the work by closing the generator.

    connection.py    clients of Redis; Redis's errors as OperationError
    setup.py         settings and configuration from environment variables
    lists.py         depths, pause, resume, drain
    parked.py        what parked items wait for
    hosts.py         hosts and their workers, storages that are away, the rate, health
    link_times.py    how long links took in the last minutes
    overview.py      lists, hosts, rates and risks, for `conserver status`
    attention.py     each problem in that overview, with its remedy, as sentences
    history.py       depth of each list, rate and duration of its chain, over time
    workers.py       the items that each worker holds; replace a worker
    contents.py      the items in a list, and why each is there
    items.py         where a vCon is; cancel it
    dead_letters.py  filter, list and count dead letters
    dead_letter_moves.py  requeue and purge them
    redis_faults.py  says in a sentence why Redis did not do something
    words.py         numbers and durations as sentences say them
    error_kinds.py   groups errors: leaves out what differs from item to item
    waiting.py       try parked items now; empty lists
    background.py    requeue, purge, retry, empty for many items: start, follow, stop
    capacity.py      how many recordings are transcribed at once
    submit.py        put documents on a list
    callbacks.py     checks the callback of a submission
    push.py          put documents and uuids on lists without a job, as producers do
    jobs.py          find, follow and cancel jobs
    follow.py        wait until submitted documents have ended
    recordings.py    recordings into vCons
    story.py         every attempt at a vCon's items
    schedules.py     when schedules fired and fire next; run, pause
    scheduled.py     the run of a schedule
    documents.py     read a vCon from Redis or a storage; store and delete it
    doctor.py        examine Redis
    search.py        what people type to find an item, a job or a vCon
    index.py         vcon-server's index: list by time, search by tel, mailto and name
    monitoring/      metrics, as Prometheus and OpenMetrics read them
    config_file.py   show the configuration file, replace it
    reload.py        let the supervisor read the configuration file again
    census.py        reads every key of Redis once: memory by kind, lists that no host serves
    forget.py        delete documents that every storage has before they expire
    reclaim.py       return the items of consumers that no host knows
    check.py         check settings, configuration, plugins and connections
    settings.py      list the settings
    audit.py         who changed what
    tokens.py        tokens of the HTTP API: make, list, revoke
"""
