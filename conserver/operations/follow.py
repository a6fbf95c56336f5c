"""Follows submissions by their jobs until each has ended."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace

from conserver.errors import Rejected
from conserver.operations import documents, jobs
from conserver.operations.connection import Client
from conserver.operations.submit import Submitted
from conserver.queue.jobs import Job
from conserver.vcon.document import Vcon


def follow(
    client: Client, submitted: Sequence[Submitted], *, timeout_s: float
) -> Generator[tuple[int, Submitted], None, None]:
    """Yield (position in `submitted`, outcome) for each submission when its job has ended.

    When `timeout_s` is over, the submissions that have not ended are yielded as `waiting`, with the
    cause if it is known. Refused submissions are skipped.
    """
    began_s = time.monotonic()
    positions = [position for position, one in enumerate(submitted) if one.job]
    names = [submitted[position].job for position in positions]
    for found in jobs.follow(client, names, timeout_s=timeout_s):
        position = positions[found.position]
        one = submitted[position]
        if found.job is None:
            yield position, replace(one, outcome="waiting", detail="its job is not known any more")
        elif found.job.ended:
            yield position, _ended(client, one, found.job, time.monotonic() - began_s)
        else:
            yield position, replace(one, outcome="waiting", detail=found.job.why)


def _ended(client: Client, one: Submitted, job: Job, followed_s: float) -> Submitted:
    """The submission with its final status, and the analyses and tags of its document in Redis."""
    took_s = min(max(job.updated_at - job.created_at, 0.0), followed_s)
    ended = replace(one, outcome=job.status, detail=job.why, duration_s=round(took_s, 3))
    text = documents.read(client, one.uuid).text
    if text is None:
        return ended
    try:
        vcon = Vcon.parse(text)
    except Rejected as refusal:
        return replace(ended, detail=refusal.reason)
    analyses = [str(entry.get("type", "")) for entry in vcon.analysis]
    return replace(ended, analyses=analyses, tags=vcon.tags)
