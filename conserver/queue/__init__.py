"""The queue: where an item is in Redis, and the scripts that move it.

At every moment an item is in exactly one of these places: its ingress list, returned, suspects, in
flight with one consumer, parked, a dead letter, or settled. Every Lua script moves items from one
place to another in one step. Begin with calls.py, which has a function for each script of workers,
with prelude.lua, which has the rules for scripts and the form of a record, and with keys.py, which
says what each key holds.

A call that is about an item carries the item's token and the epoch of its claim. It has an effect
only if the consumer's in-flight hash holds this token with this epoch (the fence). Otherwise the
item was given to another worker meanwhile, and the call does nothing.

    keys.py                 all keys: their names, types and what they hold
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
