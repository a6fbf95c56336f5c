"""Every key that Conserver has in Redis: its name, its type and what it holds.

This is the only place that says so. Use it as a module: `keys.parked("calls")` is the name of a
key. scripts/docs makes the table in docs/architecture.md from SCHEMA, wrong_type.py takes the types
from it, and a test looks for names in scripts and modules that are not here.

<list> is the name of an ingress list, <consumer> the id of a worker's registration, <host> the id
of a supervisor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

Kind = Literal["list", "zset", "hash", "set", "string", "channel"]
"""The type of a key, as Redis's TYPE names it; a channel holds nothing."""


class Key(NamedTuple):
    """A key, or those of all lists, jobs and so on. What differs is in angle brackets."""

    pattern: str
    kind: Kind
    holds: str

    @property
    def beginning(self) -> str:
        """What all names of this pattern begin with."""
        return self.pattern.partition("<")[0]


SCHEMA: list[Key] = []


def _one(name: str, kind: Kind, holds: str) -> str:
    """Declare a key. Returns its name."""
    SCHEMA.append(Key(name, kind, holds))
    return name


def _each(pattern: str, kind: Kind, holds: str) -> Callable[[str], str]:
    """Declare the keys of a pattern. Returns what makes the name of one of them."""
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
    "token -> record, of what a consumer has claimed and not settled, of all lists",
)
strange = _each(
    "conserver:strange:<consumer>",
    "hash",
    "fields of the in-flight hash that are no records, but another program's; moved here when"
    " the consumer has died",
)
NOTIFICATIONS = _one(
    "conserver:notifications",
    "list",
    "an ingress list of our own: what is to be told to the callbacks of jobs that have ended,"
    " as JSON; pushed by the script that ends the item of the job",
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
    "every supervisor, until another host has returned the items of one that died",
)
LISTS = _one(
    "conserver:lists",
    "set",
    "all lists that were ever claimed from. Coordinators work on these, not only on those of"
    " their configuration",
)
cancelled = _each(
    "conserver:cancelled:<consumer>",
    "set",
    "tokens of running items that an operator has cancelled",
)
gone = _each(
    "conserver:gone:<consumer>",
    "string",
    "its registration was deleted: for an hour no late call of its own registers it again",
)
CONTROL = _one(
    "conserver:control",
    "hash",
    "`paused:<list>` -> since when, in ms, and who; `recycle:<host>:<slot>` -> the consumer to"
    " replace; `reload:<host>:<request>` -> who asked; `throttled` -> lines of time in ms and"
    " link: links that nobody calls until then",
)
WAITING = _one(
    "conserver:waiting",
    "hash",
    "list -> JSON: elements that were its last ones at known times, for the age of the oldest"
    " (waiting.lua)",
)
_ring = _each(
    "conserver:history:<ring>:<list>",
    "string",
    "the last 24 hours of a list at 10 s (`10s`), and 14 days at 5 min (`5min`), as rings that"
    " never grow: 280 KB per list",
)
HISTORY_WRITER = _one(
    "conserver:history:writer", "string", "the host whose coordinator writes these rings"
)
rate = _each(
    "conserver:rate:<name>",
    "string",
    "when the next slot of a chain's or link's rate is free, in us since 1970",
)
schedule = _each(
    "conserver:schedule:<name>",
    "hash",
    "`fired:<cron> <time zone>` -> its latest time in ms; paused, wanted; the run that is at"
    " work (run, host, lease_ms, cursor) and how the last one ended",
)

# ---- documents -----------------------------------------------------------------------------------

document = _each("vcon:<uuid>", "string", "the document; a RedisJSON value is read, and stays one")
revision = _each(
    "conserver:revision:<uuid>",
    "hash",
    "revision and length of the document as Conserver left it, the revision that each chain"
    " wrote last, the ETags of the storages; lives as long as the document",
)
incoming = _each(
    "conserver:incoming:<job>",
    "string",
    "a large document until submit.lua moves it to its key; five minutes",
)
story = _each(
    "conserver:story:<uuid>",
    "zset",
    "time of the claim in ms -> JSON: an attempt at an item, as its worker tells it"
    " (stories.py); the newest 32",
)
_context = _each(
    "context:<list>:<uuid>",
    "list",
    "the spans that have pushed the vCon on the list, oldest first, as JSON: vcon-server's key,"
    " for its producers and consumers",
)

# ---- jobs and who submits them -------------------------------------------------------------------

job = _each(
    "conserver:job:<job>",
    "hash",
    "a submission that somebody follows: status (queued, waiting, processing; at the end"
    " completed, filtered, cancelled, failed), seq (rises with every change), uuid, list,"
    " created_ms, updated_ms, link, progress, attempts, retry_at_ms, error, keep_s and max_s"
    " (how long it is kept after its end, and at most), its callback, and what the submitter"
    " added",
)
JOBS = _one("conserver:jobs", "zset", "time of creation in ms -> job, the newest 100,000")
events = _each(
    "conserver:events:<job>", "channel", "a message `<seq> <status>` for every change of a job"
)
open_jobs = _each(
    "conserver:open:<api_token>",
    "zset",
    "when its hash expires in any case, in ms -> a job that has not ended; of API tokens with a"
    " limit of jobs at once",
)
spent = _each(
    "conserver:spent:<api_token>",
    "hash",
    "window (a day), count: the bytes that it has sent on it; of API tokens with a limit of"
    " bytes per day",
)
submitted = _each(
    "conserver:submitted:<api_token>",
    "hash",
    "window (a minute), count: the jobs submitted in it; of API tokens with a limit of jobs per"
    " minute",
)
idempotency = _each(
    "conserver:idempotency:<hash>",
    "string",
    "of an Idempotency-Key, or of a request that may be repeated: its job",
)
upload = _each("conserver:upload:<id>", "string", "what was announced of an upload, as JSON")
session = _each(
    "conserver:session:<hash>",
    "hash",
    "a login to the dashboard: its token's SHA-256; lives for `CONSERVER_UI_SESSION_S`",
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
    "a long operation: what, by whom, how far it is, `stop` where somebody asked for that",
)
OPERATIONS = _one(
    "conserver:operations", "zset", "time of their start in ms -> operation, the newest 1000"
)

# ---- vcon-server's index, which only its routes write --------------------------------------------

_found = _each(
    "conserver:index:<term>:<value>",
    "zset",
    "time of its end in s -> uuid: the vCons that a party's tel, mailto or name finds",
)
indexed = _each("conserver:indexed:<uuid>", "set", "the keys of that index that name the vCon")
INDEXING = _one(
    "conserver:indexing",
    "string",
    "there while one request indexes all documents; ends a minute after it died",
)


def history(ring: str, name: str) -> str:
    """The key of a list's ring."""
    return _ring(f"{ring}:{name}")


def trace_context(name: str, uuid: str) -> str:
    """The key of the spans that have pushed a vCon on a list."""
    return _context(f"{name}:{uuid}")


def index(term: str, value: str) -> str:
    """The key of the vCons that a member of a party finds."""
    return _found(f"{term}:{value}")


def paused(name: str) -> str:
    """The field of CONTROL that says that a list is paused."""
    return f"paused:{name}"


def recycle(host: str, slot: int) -> str:
    """The field of CONTROL that asks a host to replace the worker in a slot; its value is that
    worker's consumer id, so that no worker after it is meant.
    """
    return f"recycle:{host}:{slot}"


def reload(host: str, request: str) -> str:
    """The field of CONTROL that asks a host to read its configuration again; its value says who
    asked. A request has a field of its own, so that removing one never loses another.
    """
    return f"reload:{host}:{request}"
