"""A job in words."""

from __future__ import annotations

from typing import Any

import pytest

from conserver.http.api.shapes import job_view, with_iso
from conserver.queue.jobs import Job


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"status": "queued"}, "queued"),
        ({"status": "processing"}, "processing"),
        ({"status": "processing", "link": "hear"}, "in the link hear"),
        (
            {"link": "hear", "progress": {"done": 129.6, "total": 600.0, "unit": "s",
                                          "doing": "transcribing", "text": "hello"}},
            "transcribing, 130 of 600 s",
        ),
        ({"link": "ask", "progress": {"done": 3, "total": None, "unit": ""}}, "in the link ask, 3"),
        ({"link": "ask", "progress": {"done": None}}, "in the link ask"),  # It was no number.
        ({"status": "waiting"}, "waiting"),
        ({"status": "waiting", "retry_at": 1.5}, "waiting until 1970-01-01T00:00:01.500Z"),
        ({"status": "completed", "link": "hear"}, "completed"),
        ({"status": "failed"}, "failed"),
    ],
)  # fmt: skip
def test_how_far_a_job_is_in_words(members: dict[str, Any], words: str) -> None:
    given = {"status": "processing", **members}
    job = Job(id="j", list="calls", uuid="u", seq=1, created_at=1.0, updated_at=2.0, **given)
    view = job_view(job, "")
    assert view.progress_text == words
    assert "hello" not in view.model_dump_json()


def test_times_are_texts() -> None:
    """A text stays as it is, and 0 means that there is no such time."""
    found = {"started_at": 1.5, "ended_at": 0.0, "died_at": None, "made_at": "then", "pid": 7}
    assert with_iso(found) == {
        "started_at": "1970-01-01T00:00:01.500Z",
        "ended_at": None,
        "died_at": None,
        "made_at": "then",
        "pid": 7,
    }
