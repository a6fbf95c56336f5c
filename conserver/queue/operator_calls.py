"""The scripts that commands and the API call: submit, hurry, cancel, replay and purge.

One function for each script builds a Call, as in calls.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from conserver.queue import keys
from conserver.queue.script import Call


def replay(name: str, member: bytes, payload: bytes, state: bytes = b"") -> Call:
    """Return one dead letter to the queue. member b"": the payload has no record."""
    names = [keys.dead_letters(name), keys.dead(name), keys.returned(name), name]
    return Call("replay", names, [member, payload, state])


def purge(name: str, member: bytes, payload: bytes) -> Call:
    """Delete one dead letter. Returns 1, or 0 if it does not exist."""
    return Call("purge", [keys.dead_letters(name), keys.dead(name)], [member, payload])


def cancel(key: str, element: str | bytes, cancelled_key: str = "") -> Call:
    """Remove one waiting element, or mark a held token as cancelled. Returns 1 or 0."""
    return Call("cancel", [key], [element, cancelled_key])


def hurry(name: str, record: bytes, due_ms: int) -> Call:
    """Make a parked record due at an earlier time. Returns 1, or 0 if the record is not parked, or
    is due earlier anyway.
    """
    return Call("hurry", [keys.parked(name)], [record, due_ms])


class Submission(NamedTuple):
    """One item to submit.

    Attributes:
        job: "" for a submission without a job.
        body: the document; b"" if it is already stored, or if `source` has it.
        source: a key that holds the document; submit.lua renames it to vcon:<uuid>.
        most: the submission is refused if so many items wait on the list; 0: no limit.
        due_ms: when the item may run, in ms since 1970; 0: now.
        keep_s, max_s: how long the job is kept after its end, and at most.
        api_token, most_jobs: this API token may have so many unfinished jobs; 0: no limit.
        fields: further fields of the job's hash.
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
    """Store a document, make its job and push its uuid, in one step. submit.lua has the answers."""
    names = [one.list, keys.document(one.uuid), keys.parked(one.list), one.source]
    args: list[Any] = [one.uuid, one.job, one.body, one.most, one.due_ms, one.keep_s, one.max_s]
    args += (one.api_token if one.most_jobs else "", one.most_jobs)
    for name, value in one.fields:
        args += (name, value)
    return Call("submit", names, args)
