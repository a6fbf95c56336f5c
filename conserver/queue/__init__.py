"""The queue protocol: scripts that run inside Redis, and the one Python face of them.

At every instant an item is in exactly one of: its ingress list, returned, suspects, in flight with
one consumer, parked, a dead letter, or settled. Every script moves it from one of these to another
in one step.

    key                           type    holds
    <list>                        list    what producers RPUSH: a vCon's uuid, or a whole document
                                          (starts with "{")
    conserver:returned:<list>     list    claimed before <list>: records that came back, and what
                                          the bell has moved here
    conserver:suspects:<list>     list    records that may have killed a worker: each is run alone
    conserver:parked:<list>       zset    due time in ms -> record that waits for it (retry, storage
                                          outage, rate limit)
    DLQ:<list>                    list    dead letters as bare payloads: other tools replay them too
    conserver:dead:<list>         zset    time in ms -> why, as a line of JSON, then the record;
                                          swept by age
    conserver:inflight:<consumer> hash    token -> record, claimed and not settled, of all lists
    conserver:strange:<consumer>  hash    what lay there and is no record, once the consumer is dead
    conserver:host:<id>           hash    host, pid, version, beat, status; "consumer:<id>" ->
                                          number of its last claim, or "void"; "suspect"
                                          -> "<consumer> <token>" that the host runs
    conserver:hosts               set     every living supervisor
    conserver:lists               set     every list ever claimed from; coordinators walk these, not
                                          their own config
    conserver:cancelled:<consumer>  set   tokens of running items that an operator has cancelled
    conserver:gone:<consumer>     string  it has died and been forgotten: for an hour no late call
                                          of its own registers it again
    conserver:control             hash    "paused:<list>" -> since when
    conserver:audit               list    JSON: the last 1000 operations that changed something
    vcon:<uuid>                   string  the document (a RedisJSON value stays one)
    conserver:revision:<uuid>     hash    revision and length of the document as it was left, the
                                          revision that each chain wrote last, the storages' ETags

A record is one line of header, then state, then payload; prelude.lua has its form, record.py reads
it in Python. Whatever a consumer says of an item is fenced by token and epoch: its hash must hold
that token with that epoch, else the item was given to somebody else and nothing happens.

    record.py       a claimed item, and the state that it carries
    script.py       a script's text, one call of it, and how that is sent
    calls.py        one function per script: its keys, its arguments, its answer
    connection.py   Redis URLs (TLS, sockets, Sentinel) into connections
    line.py         the worker's connection: repeats a call until it is answered
    elements.py     what a key holds, in pages, for commands that look
    lookup.py       lists, hosts and consumers that are known; which vCon an element stands for
    wrongtype.py    keys that hold another type than they must, and what is said of them
"""
