"""operations.story: where a vCon's items are, their jobs and attempts, wherever they are."""

from __future__ import annotations

from typing import Any

import pytest

from conserver.errors import Rejected, Retry
from conserver.operations import story
from conserver.queue import keys
from conserver.vcon.document import Vcon
from tests.unit.worker.test_jobs import submit
from tests.workers import SteppedWorker, link, nothing, tag

LISTS = ["in"]


def _raising(error: Exception) -> Any:
    def run(_vcon: Vcon, _context: Any) -> Vcon:
        raise error

    return run


def test_while_it_waits_and_runs_and_when_it_has_ended(redis_url: str) -> None:
    with SteppedWorker(
        redis_url, links=[link("a", tag, costly=True), link("b", nothing)]
    ) as worker:
        uuid = submit(worker.queue, "j1")
        queued = story.read(worker.client, LISTS, uuid)
        assert [(one.list, one.where, one.job) for one in queued.places] == [("in", "queued", "j1")]
        assert [job.status for job in queued.jobs] == ["queued"]
        item = worker.claim_one()
        [place] = story.read(worker.client, LISTS, uuid).places
        assert (place.where, place.links, place.owed) == ("running", [], None)
        worker.run(item)
        [place] = story.read(worker.client, LISTS, uuid).places
        assert place.links == ["a"], "as of the checkpoint"
        worker.flush()
        worker.story_writer.flush()
        ended = story.read(worker.client, LISTS, uuid)
    assert not ended.places
    assert [job.status for job in ended.jobs] == ["completed"]
    [attempt] = ended.attempts
    assert [event.kind for event in attempt.events] == ["checkpoint", "link", "link", "completed"]
    [told] = story.as_data(ended)["attempts"]
    assert (told["claimed_at"], "claimed_ms" in told) == (attempt.claimed_ms / 1000, False)


@pytest.mark.parametrize(
    ("error", "where"), [(Retry(50, "it is busy"), "parked"), (Rejected("it is bad"), "dead")]
)
def test_parked_and_dead(redis_url: str, error: Exception, where: str) -> None:
    with SteppedWorker(redis_url, links=[link("a", _raising(error))]) as worker:
        uuid = submit(worker.queue, "j1")
        worker.work()
        worker.story_writer.flush()
        found = story.read(worker.client, LISTS, uuid)
    [place] = found.places
    assert (place.where, place.attempts, place.job) == (where, 1, "j1")
    assert str(error) in place.error
    [attempt] = found.attempts
    assert attempt.events[-1].kind == {"parked": "parked", "dead": "failed"}[where]


def test_only_what_belongs_to_the_lists_and_the_vcon(redis_url: str) -> None:
    with SteppedWorker(redis_url, links=[link("a", tag)]) as worker:
        uuid = submit(worker.queue, "j1")
        submit(worker.queue, "j2")
        worker.work()
        worker.story_writer.flush()
        assert [job.id for job in story.read(worker.client, LISTS, uuid, "j2").jobs] == ["j1"]
        nothing_of_it = story.read(worker.client, ["other"], uuid)
        expected = story.Story(uuid, [], [], [], nothing_of_it.hosts)
        assert nothing_of_it == expected


def test_keys_of_another_type_tell_nothing(redis_url: str) -> None:
    with SteppedWorker(redis_url, links=[link("a", tag)]) as worker:
        [uuid] = worker.supply(1)
        worker.client.set(keys.story(uuid), "x")
        worker.client.set(keys.JOBS, "x")
        found = story.read(worker.client, LISTS, uuid)
    assert [one.where for one in found.places] == ["queued"]
    assert not [*found.jobs, *found.attempts]
