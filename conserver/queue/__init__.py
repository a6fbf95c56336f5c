"""The queue: where an item is in Redis, and the scripts that move it.

At every moment an item is in exactly one of these places: its ingress list, returned, suspects, in
flight with one consumer, parked, a dead letter, or settled. A Lua script moves it from one place to
another in one step. Begin with keys.py (what each key holds), prelude.lua (the rules for scripts
and the form of a record) and calls.py (a function for each script that workers call).

A call about an item names the item's token and the epoch of the claim that took it. If the
consumer's in-flight hash does not hold this token with this epoch, the call does nothing (the
fence): another worker has the item.

    keys.py                 all keys: their names, types and what they hold
    calls.py                the scripts that workers call, one function each
    host_calls.py           the scripts that coordinators call
    operator_calls.py       the scripts that commands and the API call
    limits.py               the scripts for rates, throttled links and the limits of API tokens
    script.py               loads a script; a call as plain data
    record.py               a claimed item, and the progress that its record carries
    clients.py              connections for the Redis URLs (TLS, sockets, Sentinel)
    retrying_connection.py  a worker's connection: it repeats a call until Redis answers
    elements.py             reads the elements of a key page by page, for commands
    names.py                the name under which logs and commands show an item
    lookup.py               known lists, hosts and consumers; the job of an element
    jobs.py                 parses the hash of a job
    history.py              depth, rate and duration of each list over time, in ring buffers
    stories.py              the attempts at an item, as workers record them
    schedules.py            the hash of a schedule, and its two scripts
    dead_letters.py         dead letters for commands: list, requeue, purge
    cancellation.py         cancels a vCon wherever it is
    wishes.py               operators' requests (pause, recycle, ...), which a full Redis accepts
    wrong_type.py           the type that each key must have; logs keys of another type
"""
