"""Every key that Conserver has in Redis: its name, its type and what it holds.

No other module defines a key. `keys.parked("calls")` returns the name of a key. scripts/docs makes
the table in docs/architecture.md from SCHEMA, wrong_type.py takes the types from SCHEMA, and a test
checks that scripts and modules use no other names.

<list> is the name of an ingress list, <consumer> the id of a worker's registration, <host> the id
of a supervisor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

Kind = Literal["list", "zset", "hash", "set", "string", "channel"]
"""The type of a key, as Redis's TYPE names it; a channel holds nothing."""


class Key(NamedTuple):
    """A key, or a pattern of keys; the variable part of a pattern is in angle brackets."""

    pattern: str
    kind: Kind
    holds: str

    @property
    def beginning(self) -> str:
        """The part that all names of this pattern begin with."""
        return self.pattern.partition("<")[0]


SCHEMA: list[Key] = []


def _one(name: str, kind: Kind, holds: str) -> str:
    """Declare a key. Returns its name."""
    SCHEMA.append(Key(name, kind, holds))
    return name


def _each(pattern: str, kind: Kind, holds: str) -> Callable[[str], str]:
    """Declare a pattern of keys. Returns a function that makes the name of one key."""
    key = Key(pattern, kind, holds)
    SCHEMA.append(key)
    beginning = key.beginning
    return lambda name: beginning + name


# ---- items: each is in one of these places -------------------------------------------------------

_INGRESS = _one(
    "<list>",
    "list",
    "what producers push: a vCon's uuid, `<uuid>#<job>`, or a whole vCon (begins with `{`)",
)
returned = _each(
    "conserver:returned:<list>",
    "list",
    "claimed before the ingress list: records that came back after a claim, and payloads that a"
    " list waiter has moved here",
)
suspects = _each(
    "conserver:suspects:<list>",
    "list",
    "records of items that may have killed a worker; each runs alone",
)
parked = _each(
    "conserver:parked:<list>",
    "zset",
    "due time in ms -> record that waits until then: a retry, a storage that is away, a rate"
    " limit, a submission for later",
)
dead_letters = _each(
    "DLQ:<list>", "list", "dead letters as bare payloads, which other tools can replay"
)
dead = _each(
    "conserver:dead:<list>",
    "zset",
    "time in ms -> why an item is a dead letter, as one line of JSON, and its record; deleted"
    " after `VCON_DLQ_EXPIRY`",
)
inflight = _each(
    "conserver:inflight:<consumer>",
    "hash",
    "token -> record: the items of all lists that the consumer has claimed and not settled",
)
strange = _each(
    "conserver:strange:<consumer>",
    "hash",
    "fields of the in-flight hash that another program wrote (they are no records); moved here"
    " when the consumer has died",
)
NOTIFICATIONS = _one(
    "conserver:notifications",
    "list",
    "an internal ingress list: notifications, as JSON, for the callbacks of jobs that have ended;"
    " the script that ends a job's item pushes them",
)

# ---- hosts, consumers and lists ------------------------------------------------------------------

host = _each(
    "conserver:host:<host>",
    "hash",
    "`beat`; the status that `conserver status` shows (coordinator/host_status.py);"
    ' `consumer:<id>` -> number of its last claim, or "void": its registration; `suspect` ->'
    " consumer and token that the host runs",
)
HOSTS = _one(
    "conserver:hosts",
    "set",
    "the ids of all hosts; a dead host stays until another host has returned its items",
)
LISTS = _one(
    "conserver:lists",
    "set",
    "all lists that were ever claimed from; every coordinator looks after all of them",
)
cancelled = _each(
    "conserver:cancelled:<consumer>",
    "set",
    "tokens of running items that an operator has cancelled",
)
gone = _each(
    "conserver:gone:<consumer>",
    "string",
    "exists for an hour after the consumer's registration was deleted, so that no late call"
    " registers it again",
)
CONTROL = _one(
    "conserver:control",
    "hash",
    "`paused:<list>` -> since when, in ms, and who; `recycle:<host>:<slot>` -> the consumer to"
    " replace; `reload:<host>:<request>` -> who asked; `throttled` -> one line per"
    " throttled link: a time in ms, and the link, which no worker calls before that time",
)
WAITING = _one(
    "conserver:waiting",
    "hash",
    "list -> JSON: marks, from which waiting.lua finds the age of the oldest item. A mark is an"
    " element of the list, and a time at which this element stood at the end of the list",
)
_ring = _each(
    "conserver:history:<ring>:<list>",
    "string",
    "depths of a list, rates and durations of its chain, in two ring buffers of fixed size: 24"
    " hours at 10 s (`10s`), 14 days at 5 min (`5min`); 280 KB per list",
)
HISTORY_WRITER = _one(
    "conserver:history:writer", "string", "the host whose coordinator writes these rings"
)
rate = _each(
    "conserver:rate:<name>",
    "string",
    "the time up to which the slots of a chain's or link's rate are given out, in us since 1970",
)
schedule = _each(
    "conserver:schedule:<name>",
    "hash",
    "`fired:<cron> <time zone>` -> the latest time that was fired, in ms; paused, wanted; the"
    " current run (run, host, lease_ms, cursor); how the last run ended",
)

# ---- documents -----------------------------------------------------------------------------------

document = _each(
    "vcon:<uuid>",
    "string",
    "the document. It may be a RedisJSON value: Conserver reads and writes it as one",
)
revision = _each(
    "conserver:revision:<uuid>",
    "hash",
    "revision and length of the document when Conserver last wrote it, the last revision of each"
    " chain, the ETags of the storages; expires with the document",
)
incoming = _each(
    "conserver:incoming:<job>",
    "string",
    "a large document, until submit.lua moves it to `vcon:<uuid>`; expires after five minutes",
)
story = _each(
    "conserver:story:<uuid>",
    "zset",
    "time of the claim in ms -> an attempt at an item, as JSON, written by the worker"
    " (stories.py); the newest 32",
)
_context = _each(
    "context:<list>:<uuid>",
    "list",
    "the trace spans that pushed the vCon to the list, oldest first, as JSON; vcon-server defined"
    " this key, and its producers and consumers use it",
)

# ---- jobs and who submits them -------------------------------------------------------------------

job = _each(
    "conserver:job:<job>",
    "hash",
    "a submission that somebody follows: status (queued, waiting, processing; at the end"
    " completed, filtered, cancelled, failed), seq (rises with every change), uuid, list,"
    " created_ms, updated_ms, link, progress, attempts, retry_at_ms, error, keep_s and max_s"
    " (how long the hash is kept after the end, and at most), callback, and the submitter's own"
    " fields",
)
JOBS = _one("conserver:jobs", "zset", "time of creation in ms -> job, the newest 100,000")
events = _each(
    "conserver:events:<job>", "channel", "a message `<seq> <status>` for every change of a job"
)
open_jobs = _each(
    "conserver:open:<api_token>",
    "zset",
    "when the job's hash expires at the latest, in ms -> an unfinished job; only for API tokens"
    " with a limit on unfinished jobs",
)
spent = _each(
    "conserver:spent:<api_token>",
    "hash",
    "window (a day), count (the bytes that the token sent that day); only for API tokens with a"
    " limit on bytes per day",
)
submitted = _each(
    "conserver:submitted:<api_token>",
    "hash",
    "window (a minute), count (the jobs that the token submitted in that minute); only for API"
    " tokens with a limit on jobs per minute",
)
idempotency = _each(
    "conserver:idempotency:<hash>",
    "string",
    "the job that an earlier request with this Idempotency-Key, or this same request, has made",
)
upload = _each("conserver:upload:<id>", "string", "what the client announced of an upload, as JSON")
session = _each(
    "conserver:session:<hash>",
    "hash",
    "a login to the dashboard: the SHA-256 of its API token; expires after"
    " `CONSERVER_UI_SESSION_S`",
)

# ---- operators -----------------------------------------------------------------------------------

AUDIT = _one(
    "conserver:audit",
    "list",
    "JSON: the last 1000 operations that changed something: at, actor, action, target, count",
)
operation = _each(
    "conserver:operation:<name>",
    "hash",
    "a long operation: its kind, who started it, its progress, and `stop` if somebody asked to"
    " stop it",
)
OPERATIONS = _one(
    "conserver:operations", "zset", "time of their start in ms -> operation, the newest 1000"
)

# ---- vcon-server's index, which only its routes write --------------------------------------------

_found = _each(
    "conserver:index:<term>:<value>",
    "zset",
    "when the entry expires, in s -> uuid: the vCons with a party of this tel, mailto or name",
)
indexed = _each("conserver:indexed:<uuid>", "set", "the keys of that index that name the vCon")
INDEXING = _one(
    "conserver:indexing",
    "string",
    "exists while one request indexes all documents; expires a minute after that request died",
)


def history(ring: str, name: str) -> str:
    """The key of a list's ring."""
    return _ring(f"{ring}:{name}")


def trace_context(name: str, uuid: str) -> str:
    """The key of the trace spans that pushed a vCon to a list."""
    return _context(f"{name}:{uuid}")


def index(term: str, value: str) -> str:
    """The index key of a party's tel, mailto or name (`term`) with this value."""
    return _found(f"{term}:{value}")


def paused(name: str) -> str:
    """The field of CONTROL that says that a list is paused."""
    return f"paused:{name}"


def recycle(host: str, slot: int) -> str:
    """The field of CONTROL that asks a host to replace the worker in a slot. The value is the
    consumer id of that worker, so that the request never hits the worker's successor.
    """
    return f"recycle:{host}:{slot}"


def reload(host: str, request: str) -> str:
    """The field of CONTROL that asks a host to read its configuration again; the value says who
    asked. Each request has its own field, so that removing a request never removes another one.
    """
    return f"reload:{host}:{request}"
