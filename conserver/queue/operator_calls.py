"""The scripts that commands and the API call: submit, hurry, cancel, replay and purge.

One function per script, as in calls.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from conserver.queue import keys
from conserver.queue.script import Call


def replay(name: str, member: bytes, payload: bytes, state: bytes = b"") -> Call:
    """Return one dead letter to the queue; member b"" is a payload without a record."""
    names = [keys.dead_letters(name), keys.dead(name), keys.returned(name), name]
    return Call("replay", names, [member, payload, state])


def purge(name: str, member: bytes, payload: bytes) -> Call:
    """Delete one dead letter. Returns 1, or 0 if it was gone."""
    return Call("purge", [keys.dead_letters(name), keys.dead(name)], [member, payload])


def cancel(key: str, element: str | bytes, cancelled_key: str = "") -> Call:
    """Remove one waiting element, or mark a held token as cancelled. Returns 1 or 0."""
    return Call("cancel", [key], [element, cancelled_key])


def hurry(name: str, record: bytes, due_ms: int) -> Call:
    """Make a parked record due at an earlier time. Returns 1, or 0 if it is parked no more."""
    return Call("hurry", [keys.parked(name)], [record, due_ms])


class Submission(NamedTuple):
    """One item to submit.

    job: "" for one that nobody follows. body: the document, b"" if it is stored already; source: a
    key that holds the document instead, to be moved to vcon:<uuid>. most: how many items may wait
    on the list (0: any number). due_ms: when it may run, in ms since 1970 (0: now). api_token,
    most_jobs: whose jobs are limited to how many at once (0: any number). fields: what the job's
    hash has besides.
    """

    list: str
    uuid: str
    job: str = ""
    body: bytes = b""
    source: str = ""
    most: int = 0
    due_ms: int = 0
    keep_s: int = 3600
    max_s: int = 604_800
    api_token: str = ""
    most_jobs: int = 0
    fields: Sequence[tuple[str, str | bytes | int]] = ()


def submit(one: Submission) -> Call:
    """Store a document, make its job and push it, in one step. See submit.lua for its answers."""
    names = [one.list, keys.document(one.uuid), keys.parked(one.list), one.source]
    args: list[Any] = [one.uuid, one.job, one.body, one.most, one.due_ms, one.keep_s, one.max_s]
    args += (one.api_token if one.most_jobs else "", one.most_jobs)
    for name, value in one.fields:
        args += (name, value)
    return Call("submit", names, args)
