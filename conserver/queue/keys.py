"""The names of keys in Redis; the schema in __init__.py says what they hold (a test compares).

Use it as a module: `keys.parked(name)`. `name` is the name of an ingress list, which is also the
list's own key; `consumer` is the id of a worker's registration, `host` the id of a supervisor.
"""

from __future__ import annotations

AUDIT = "conserver:audit"
HOSTS = "conserver:hosts"
LISTS = "conserver:lists"
CONTROL = "conserver:control"
JOBS = "conserver:jobs"
WAITING = "conserver:waiting"
NOTIFICATIONS = "conserver:notifications"
"""An ingress list of our own: the ends of jobs that are to be told."""


def returned(name: str) -> str:
    """List: records that came back after a claim, and payloads that a list waiter has moved."""
    return f"conserver:returned:{name}"


def suspects(name: str) -> str:
    """List: records that may have killed a worker."""
    return f"conserver:suspects:{name}"


def parked(name: str) -> str:
    """Sorted set: due time in ms -> record."""
    return f"conserver:parked:{name}"


def dead_letters(name: str) -> str:
    """List: dead letters as bare payloads, for any tool."""
    return f"DLQ:{name}"


def dead(name: str) -> str:
    """Sorted set: time in ms -> why an item is a dead letter, and its record."""
    return f"conserver:dead:{name}"


def inflight(consumer: str) -> str:
    """Hash: token -> record of what a consumer has claimed and not settled."""
    return f"conserver:inflight:{consumer}"


def strange(consumer: str) -> str:
    """Hash: what lay in the in-flight hash of a dead consumer and is no record."""
    return f"conserver:strange:{consumer}"


def cancelled(consumer: str) -> str:
    """Set: tokens of a consumer's running items that an operator has cancelled."""
    return f"conserver:cancelled:{consumer}"


def gone(consumer: str) -> str:
    """String: the consumer has died and its registration was deleted."""
    return f"conserver:gone:{consumer}"


def host(host: str) -> str:
    """Hash: one supervisor's beat, status and registered consumers."""
    return f"conserver:host:{host}"


def job(job: str) -> str:
    """Hash: the state of one job."""
    return f"conserver:job:{job}"


def events(job: str) -> str:
    """Channel: "<seq> <status>" for every change of a job."""
    return f"conserver:events:{job}"


def story(uuid: str) -> str:
    """Sorted set: time of the claim in ms -> an attempt at the vCon's items (stories.py)."""
    return f"conserver:story:{uuid}"


def schedule(name: str) -> str:
    """Hash: when a schedule has fired, what it does now, how it ended last."""
    return f"conserver:schedule:{name}"


def open_jobs(api_token: str) -> str:
    """Sorted set: when its hash expires in any case, in ms -> a job of that API token that
    has not ended; of tokens with a limit of jobs at once.
    """
    return f"conserver:open:{api_token}"


def spent(api_token: str) -> str:
    """Hash: a day, and the bytes that an API token with a limit has sent on it."""
    return f"conserver:spent:{api_token}"


def submitted(api_token: str) -> str:
    """Hash: a minute, and how many jobs an API token has submitted in it."""
    return f"conserver:submitted:{api_token}"


def rate(name: str) -> str:
    """String: when the next slot of a rate is free, in us since 1970."""
    return f"conserver:rate:{name}"


def document(uuid: str) -> str:
    """String or RedisJSON: a vCon."""
    return f"vcon:{uuid}"


def incoming(job: str) -> str:
    """String: a large document until submit.lua moves it to its own key."""
    return f"conserver:incoming:{job}"


def trace_context(name: str, uuid: str) -> str:
    """List: the spans that have pushed a vCon on a list, oldest first, as JSON: vcon-server's
    key, for its producers and consumers.
    """
    return f"context:{name}:{uuid}"


def revision(uuid: str) -> str:
    """Hash: revision and length of a vCon as it was left, and the ETags of the storages."""
    return f"conserver:revision:{uuid}"


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
