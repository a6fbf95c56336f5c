"""Examines whether Redis, and the plugins on this machine, let Conserver keep its guarantees.

Each verdict is `ok`, `warning` (Conserver works, but may lose items) or `wrong` (Conserver cannot
work), and has advice.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import conserver
from conserver.config.model import Config
from conserver.config.validation import suggest
from conserver.errors import ConfigError
from conserver.operations import census, hosts
from conserver.operations.connection import Client, server_version
from conserver.operations.reclaim import stranded
from conserver.operations.words import items
from conserver.plugins import reading
from conserver.queue import keys, lookup

_VERSION_MIN = (6, 2)
_CLOCK_S_MAX = 1.0
_ROUND_TRIP_MS_MAX = 5.0
_FULL = 0.9  # of maxmemory
_ROOM = (
    "old dead letters (`conserver dlq purge --older 30d`), egress lists that nobody reads, "
    "documents that are done with (`conserver forget --stored`): `room` in `conserver doctor` says "
    "which"
)

REDIS_COMMANDS = (
    "blmove", "del", "eval", "evalsha", "exec", "exists", "expire", "get", "getrange", "hdel",
    "hexists", "hget", "hgetall", "hincrby", "hkeys", "hlen", "hmget", "hrandfield", "hset",
    "hsetnx", "info", "llen", "lpop", "lpos", "lpush", "lrange", "lrem", "mget", "multi", "persist",
    "pexpireat", "ping", "pttl", "rename", "rpush", "sadd", "scan", "set", "setrange", "smembers",
    "srem", "strlen", "time", "type", "zadd", "zcard", "zcount", "zrange", "zrangebyscore", "zrem",
    "zremrangebyrank", "zrevrange", "zrevrangebyscore", "zscore",
)  # fmt: skip
"""The commands that the scripts, the daemon and the operations call: the Redis user needs the right
for each."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The finding about one subject, how bad it is, and advice."""

    subject: str
    level: Literal["ok", "warning", "wrong"]
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings. ok: none of them is `wrong`. host, version: the name of this machine, and its
    version of Conserver.
    """

    host: str
    version: str
    ok: bool
    findings: list[Verdict]


def examine(client: Client, config: Config | None = None, source: str = "") -> Diagnosis:
    """Examine Redis and the plugins. If Redis refuses a command of an examination, that becomes a
    finding.

    Args:
        config: the configuration. Its lists belong to somebody if no host lives that could say so;
            None if this machine has none: then no plugin is examined.
        source: the configuration's file.
    """
    from redis.exceptions import ResponseError

    configured = [*config.ingress, *config.egress] if config else []

    def room(client: Client) -> Iterator[Verdict]:
        return _census(client, configured)

    examinations: tuple[Callable[[Client], Iterator[Verdict]], ...] = (
        _version,
        _role,
        _persistence,
        _eviction,
        _rights,
        _events,
        _scripts,
        _keys,
        _stranded,
        room,
        _clock,
        _round_trip,
    )
    findings: list[Verdict] = []
    for look in examinations:
        subject = look.__name__.strip("_").replace("_", " ")
        try:
            findings += look(client)
        except ResponseError as error:
            findings.append(
                Verdict(
                    subject,
                    "warning",
                    f"Redis refuses to show it: {error}",
                    "ask the people who run this Redis",
                )
            )
    if config:
        findings += _plugins(config, source)
    ok = all(finding.level != "wrong" for finding in findings)
    return Diagnosis(socket.gethostname(), conserver.__version__, ok, findings)


def _info(client: Client, section: str) -> dict[str, Any]:
    found: dict[str, Any] = client.info(section)
    return found


def _configured(client: Client, name: str) -> str:
    found: dict[str, Any] = client.config_get(name)
    value = found.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)


def _version(client: Client) -> Iterator[Verdict]:
    server = _info(client, "server")
    name, text = server_version(server)
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if name == "Redis" and numbers < _VERSION_MIN:
        yield Verdict("version", "wrong", f"{name} {text}", "6.2 or later is needed (BLMOVE)")
    else:
        yield Verdict("version", "ok", f"{name} {text}")
    if str(server.get("redis_mode", "standalone")) == "cluster":
        advice = "use a standalone server or Sentinel: items move between keys of any slot"
        yield Verdict("mode", "wrong", "cluster", advice)


def _role(client: Client) -> Iterator[Verdict]:
    role = str(_info(client, "replication").get("role", ""))
    if role == "master":
        yield Verdict("role", "ok", "primary")
    else:
        yield Verdict("role", "wrong", role, "REDIS_URL must lead to the primary")


def risks(client: Client) -> list[Verdict]:
    """The problems of Redis at this moment: it cannot save, it is full or nearly full, it evicts.

    Each overview calls this, so it sends only two commands. If Redis refuses a command, its
    finding is left out.
    """
    from redis.exceptions import ResponseError

    found: list[Verdict] = []
    for look in (_saving, _eviction):
        with suppress(ResponseError):
            found += [one for one in look(client) if one.level != "ok"]
    return found


def _persistence(client: Client) -> Iterator[Verdict]:
    found = _info(client, "persistence")
    syncs, saves = _configured(client, "appendfsync"), _configured(client, "save")
    yield persistence(bool(found.get("aof_enabled")), syncs, saves)
    yield from _saving(client)


def _saving(client: Client) -> Iterator[Verdict]:
    found = _info(client, "persistence")
    for name in ("rdb_last_bgsave_status", "aof_last_write_status"):
        if found.get(name, "ok") != "ok":
            text = f"failing ({name}: {found[name]})"
            yield Verdict("persistence", "wrong", text, "look at Redis's log, and at its disk")


def persistence(append_only: bool, syncs: str, saves: str) -> Verdict:
    """The finding about persistence, from the options `appendonly`, `appendfsync` and `save`."""
    if append_only:
        loses = {"always": "nothing", "everysec": "up to a second"}.get(
            syncs, "all writes that the kernel had not written to disk"
        )
        level: Literal["ok", "warning"] = "warning" if syncs == "no" else "ok"
        advice = "appendfsync everysec" if syncs == "no" else ""
        return Verdict("persistence", level, f"AOF, {syncs}: a crash loses {loses}", advice)
    text = "none: a restart loses all items"
    if saves:
        text = "snapshots only: a crash loses minutes of items"
    return Verdict("persistence", "warning", text, "appendonly yes")


def _eviction(client: Client) -> Iterator[Verdict]:
    memory = _info(client, "memory")
    policy = str(memory.get("maxmemory_policy", ""))
    limit = int(memory.get("maxmemory", 0))
    # This is the figure that Redis compares with maxmemory before it refuses a write.
    used = int(memory.get("used_memory", 0)) - int(memory.get("mem_not_counted_for_evict", 0))
    yield eviction(policy, used, limit)


def eviction(policy: str, used: int, limit: int) -> Verdict:
    """The finding about memory and eviction. used, limit: in bytes; limit 0: no maxmemory."""
    text = f"noeviction, {used >> 20} of {limit >> 20} MiB used"
    if limit and policy != "noeviction":
        advice = "maxmemory-policy noeviction: any other throws waiting items away"
        return Verdict("eviction", "wrong", policy, advice)
    if not limit:
        text = f"no memory limit, {used >> 20} MiB used"
        return Verdict("eviction", "ok", text, "a maxmemory below the machine's keeps Redis alive")
    if used >= limit:
        advice = f"raise maxmemory, or make room: {_ROOM}"
        return Verdict("eviction", "wrong", f"{text}: producers cannot push", advice)
    if used >= _FULL * limit:
        return Verdict("eviction", "warning", f"{text}: it is nearly full", f"make room: {_ROOM}")
    return Verdict("eviction", "ok", text)


def _rights(client: Client) -> Iterator[Verdict]:
    from redis.exceptions import NoPermissionError, ResponseError

    user = _user(client)
    try:
        missing = [command for command in REDIS_COMMANDS if not _may(client, command)]
    except NoPermissionError:
        yield Verdict("rights", "warning", f"user {user} may not ask for its rights", "+acl|dryrun")
        return
    except ResponseError:
        yield Verdict("rights", "ok", f"user {user}; this server cannot list its rights")
        return
    yield rights(user, missing)


def rights(user: str, missing: Sequence[str]) -> Verdict:
    """The finding about the commands of REDIS_COMMANDS that the Redis user may not call."""
    if not missing:
        return Verdict("rights", "ok", f"user {user} may do what is needed")
    text = f"user {user} may not call {', '.join(missing)}"
    return Verdict("rights", "wrong", text, f"ACL SETUSER {user} +{' +'.join(missing)}")


def _events(client: Client) -> Iterator[Verdict]:
    """A finding if the Redis user may not PUBLISH, which only the events of jobs need."""
    from redis.exceptions import ResponseError

    try:
        if _may(client, "publish"):
            return
    except ResponseError:
        return  # `_rights` reports that this server has no ACL DRYRUN
    user = _user(client)
    text = f"user {user} may not publish: nobody can follow a job as it happens"
    yield Verdict("events", "warning", text, f"ACL SETUSER {user} +publish &conserver:events:*")


def _scripts(client: Client) -> Iterator[Verdict]:
    """Run a script, because all moves of items are scripts, and a Redis user may lack the right to
    ask for its rights.
    """
    from redis.exceptions import ResponseError

    try:
        client.eval("return 1", 0)
    except ResponseError as error:
        advice = f"ACL SETUSER {_user(client)} +eval +evalsha"
        yield Verdict("scripts", "wrong", f"none can be run: {error}", advice)
    else:
        yield Verdict("scripts", "ok", "can be run")


def _keys(client: Client) -> Iterator[Verdict]:
    wrong = lookup.wrong_keys(client)
    for found in wrong:
        yield Verdict("keys", "wrong", found.fault, lookup.REMEDY)
    if not wrong:
        yield Verdict("keys", "ok", "have the types they must have")


def _stranded(client: Client) -> Iterator[Verdict]:
    lost = stranded(client)
    if lost:
        text = f"{sum(lost.values())} in flight with workers that no host knows"
        yield Verdict("stranded", "wrong", text, "`conserver reclaim` returns them to their lists")
    else:
        yield Verdict("stranded", "ok", "all items in flight are held by workers of known hosts")


def _census(client: Client, configured: Collection[str]) -> Iterator[Verdict]:
    """Findings about what fills Redis, and about lists that no host serves. If no host lives, the
    configuration says which lists are served.
    """
    found = census.take(client)
    if found.bytes:
        rest = "" if found.complete else f", of the first {census.KEYS_MAX:,} keys"
        yield Verdict("room", "ok", f"{found.largest}{rest}")
    living = [host for host in hosts.read(client) if host.beats]
    served = {name for host in living for name in host.lists} if living else set(configured)
    expected = served | {name for host in living for name in host.egress}
    if not expected:
        if found.lists:
            text = "not examined: no host lives, and no configuration was found that names lists"
            yield Verdict("lists", "ok", text)
        return
    whose = "no host serves it" if living else "the configuration does not name it"
    for name in found.unserved(expected):
        count = client.llen(name)
        near = suggest(name, served)
        hint = f" ({near})" if near.startswith("did you mean") else ""
        text = f"{name} holds {items(count)}, and {whose}{hint}"
        advice = f"`conserver list {name}` shows them; RENAME it if it is a typo"
        yield Verdict("lists", "warning", text, advice)


def _may(client: Client, command: str) -> bool:
    """Whether the Redis user may call a command. Raises ResponseError if ACL DRYRUN is refused."""
    return client.execute_command(*dry_run(_user(client), command)) in (b"OK", "OK", True)


def dry_run(user: str, command: str) -> tuple[str, ...]:
    """The command of Redis that asks whether a user may call a command: the answer is OK then."""
    return ("ACL", "DRYRUN", user, command, *_arguments(command))


def _user(client: Client) -> str:
    """The Redis user of the URL."""
    return str(client.connection_pool.connection_kwargs.get("username") or "default")


def _arguments(command: str) -> tuple[str, ...]:
    """Arguments with which ACL DRYRUN accepts a command. Redis does not execute the command."""
    key = "conserver:nothing"
    counts: dict[str, tuple[str, ...]] = {
        "ping": (), "time": (), "info": (), "multi": (), "exec": (),
        "eval": ("return 1", "1", key), "evalsha": ("0", "1", key),
        "blmove": (key, key, "LEFT", "RIGHT", "1"),
        "hset": (key, "f", "v"), "hsetnx": (key, "f", "v"), "hincrby": (key, "f", "1"),
        "getrange": (key, "0", "1"), "setrange": (key, "0", "v"),
        "rename": (key, key), "publish": (keys.events("nothing"), "v"),
        "lrange": (key, "0", "1"), "lpos": (key, "v"), "lrem": (key, "1", "v"),
        "zadd": (key, "1", "v"),
        "zcount": (key, "0", "1"), "zrange": (key, "0", "1"), "zrangebyscore": (key, "0", "1"),
        "zrevrangebyscore": (key, "1", "0"), "zscore": (key, "v"),
        "zremrangebyrank": (key, "0", "1"), "zrevrange": (key, "0", "1"),
    }  # fmt: skip
    one_more = ("expire", "hdel", "hexists", "hget", "hmget", "lpush", "pexpireat", "rpush", "sadd",
                "set", "srem", "zrem")  # fmt: skip
    if command in one_more:
        return (key, "1")
    return counts.get(command, (key,))


def _plugins(config: Config, source: str) -> Iterator[Verdict]:
    """Findings about links and storages: an extra that is not installed, a model's folder that
    cannot be used.
    """
    try:
        reading.load_plugins(config, source, prepare=True)
    except ConfigError as error:
        for found in error.problems:
            yield Verdict("plugins", "wrong", f"{found.path}: {found.message}", found.hint)
    else:
        yield Verdict("plugins", "ok", "links and storages can be used on this machine")


def _clock(client: Client) -> Iterator[Verdict]:
    before_s = time.time()
    seconds, micros = client.time()
    after_s = time.time()
    off_s = seconds + micros / 1e6 - (before_s + after_s) / 2
    text = f"{off_s:+.3f} s from ours"
    if abs(off_s) > _CLOCK_S_MAX:
        advice = "synchronize both (NTP): ages in logs and status are wrong otherwise"
        yield Verdict("clock", "warning", text, advice)
    else:
        yield Verdict("clock", "ok", text)


def _round_trip(client: Client) -> Iterator[Verdict]:
    began_s = time.monotonic()
    for _ in range(20):
        client.ping()
    took_ms = (time.monotonic() - began_s) / 20 * 1000
    text = f"{took_ms:.2f} ms"
    if took_ms > _ROUND_TRIP_MS_MAX:
        yield Verdict("round trip", "warning", text, "each item needs a few: bring Redis closer")
    else:
        yield Verdict("round trip", "ok", text)
