"""What an operator can ask and change, as functions and data.

The commands, the HTTP API and the dashboard are faces of this wing: they read arguments, call a
function here and show what it returns. Nothing here prints, exits, or reads arguments or the
environment. Begin with overview.py (what `conserver status` shows).

Functions take a blocking Redis client that decodes nothing (connection.py) and plain values, and
return frozen dataclasses. What changes something takes `actor`, the name of who asked for it, and
leaves one entry in the audit list (audit.py). Long work is a generator of its progress; whoever
closes the generator stops the work.

    connection.py    clients of Redis; what Redis refuses, as OperationError
    setup.py         settings and configuration from environment variables
    lists.py         depths, pause, resume, drain
    parked.py        what parked items wait for
    hosts.py         hosts and their workers, storages that are away, the rate, health
    link_times.py    how long links take, lately
    overview.py      all of that at once
    attention.py     what of it is wrong, in words, and what to do about it
    history.py       depth, rate and duration of each list over time
    workers.py       what each one holds; replace one
    contents.py      what is in a list, and why
    items.py         where a vCon is; cancel it
    dead_letters.py  filter, list, count, requeue, purge
    redis_faults.py  why Redis did not do something, in a sentence
    words.py         numbers and durations as sentences say them
    error_kinds.py   errors without what differs from item to item
    waiting.py       try parked items now; empty lists
    background.py    all of these for many, as operations that are followed and stopped
    capacity.py      how many recordings are transcribed at once
    submit.py        put documents on a list
    callbacks.py     where the end of a job is told, and what is refused
    push.py          put documents and uuids on lists without a job, as producers do
    jobs.py          submissions that somebody follows: find, follow, cancel
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
    reload.py        let the supervisor read it again
    census.py        every key of Redis once: what fills it, and lists that no host serves
    forget.py        documents that every storage has go before their time
    reclaim.py       return what consumers hold that no host knows
    check.py         check settings, configuration, plugins and connections
    settings.py      list the settings
    audit.py         who changed what
    tokens.py        tokens of the HTTP API: make, list, revoke
"""
