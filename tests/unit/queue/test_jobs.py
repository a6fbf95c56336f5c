"""What a job's hash tells."""

from __future__ import annotations

import orjson
import pytest

from conserver.queue import jobs


def test_errors_have_no_secrets() -> None:
    """No face has to hide them: commands, routes and pages show what they get."""
    why = orjson.dumps({"error": "no answer of https://u:pa55@h/", "attempts": [1, 2]})
    job = jobs.load("j", {b"status": b"failed", b"error": why, b"notification_error": why})
    assert job is not None
    assert job.error == {"error": "no answer of https://u:***@h/", "attempts": [1, 2]}
    assert job.notification_error == job.error


def test_what_is_no_object_is_no_error() -> None:
    for text in (b"", b"[1]", b"null", b"{"):
        job = jobs.load("j", {b"status": b"failed", b"error": text})
        assert job is not None
        assert job.error == {}


@pytest.mark.parametrize("status", ["queued", "processing", "completed", "filtered", "cancelled"])
def test_the_error_of_an_earlier_attempt_is_not_shown(status: str) -> None:
    why = orjson.dumps({"link": "it", "error": "busy", "attempts": 2})
    fields = {b"status": status.encode(), b"error": why, b"attempts": b"1"}
    job = jobs.load("j", fields)
    assert job is not None
    assert (job.error, job.attempts) == ({}, 2)


@pytest.mark.parametrize(
    ("status", "error", "why"),
    [
        (
            "failed",
            {"reason": "failed", "link": "a", "error": "'x'", "type": "KeyError"},
            "failed: a: KeyError: 'x'",
        ),
        ("failed", {"reason": "poison", "error": "it died\nof that"}, "poison: it died"),
        ("waiting", {"link": "a", "error": "busy", "attempts": 1}, "a: busy"),
        ("waiting", {"storages": {"s3": "is away", "pg": "is full"}}, "s3: is away; pg: is full"),
        ("waiting", {"rate": "6/min", "attempts": 0}, "its rate, 6/min"),
        ("waiting", {}, ""),
    ],
)
def test_why_a_job_failed_or_waits_is_one_line(
    status: str, error: dict[str, object], why: str
) -> None:
    job = jobs.load("j", {b"status": status.encode(), b"error": orjson.dumps(error)})
    assert job is not None
    assert job.why == why
