"""What a worker tells of its attempts at an item."""

from __future__ import annotations

from typing import Any

import pytest

from conserver.errors import Rejected, Retry
from conserver.queue import keys, stories
from conserver.queue.stories import ATTEMPTS_MAX, EVENTS_MAX, Attempt, Event
from conserver.vcon.document import Vcon
from tests.conftest import unique
from tests.helpers import eventually
from tests.modules import memory
from tests.unit.worker.test_jobs import submit
from tests.workers import RunningWorker, SteppedWorker, link, nothing, storage, tag


def told(worker: SteppedWorker | RunningWorker, uuid: str) -> list[Attempt]:
    """The story in Redis."""
    if isinstance(worker, SteppedWorker):
        worker.story_writer.flush()
    return stories.load(worker.client.zrange(keys.story(uuid), 0, -1))


def kinds(attempt: Attempt) -> list[tuple[str, str, bool]]:
    return [(event.kind, event.name, event.good) for event in attempt.events]


def test_links_checkpoints_storages_and_the_end(redis_url: str) -> None:
    shelf = unique("shelf-")
    links = [link("a", tag, costly=True), link("b", nothing)]
    with SteppedWorker(redis_url, links=links, storages=[storage(shelf)]) as worker:
        uuid = submit(worker.queue, "j1")
        worker.run(worker.claim_one())
        worker.store()
        [attempt] = told(worker, uuid)
    assert kinds(attempt) == [
        ("checkpoint", "", True),
        ("link", "a", True),
        ("link", "b", True),
        ("storage", shelf, True),
        ("completed", "out", True),
    ]
    assert (attempt.job, attempt.list_name, attempt.chain, attempt.number) == (
        "j1",
        "in",
        "main",
        1,
    )
    assert (attempt.host, attempt.consumer) == (worker.boot.host, worker.boot.consumer)
    times = [(event.from_ms, event.to_ms) for event in attempt.events]
    assert all(0 <= begun <= ended for begun, ended in times)


def _retry(_vcon: Vcon, _context: Any) -> Vcon:
    raise Retry(0, "the model is busy: redis://user:secret@host")


def _reject(_vcon: Vcon, _context: Any) -> Vcon:
    raise Rejected("nobody can read it")


def test_attempts_side_by_side(redis_url: str) -> None:
    with SteppedWorker(redis_url, links=[link("it", _retry)]) as worker:
        uuid = submit(worker.queue, "j1")
        for _ in range(2):
            worker.work()
            worker.queue.promote("in")
        attempts = told(worker, uuid)
    assert len(attempts) == 2
    assert attempts[0].number < attempts[1].number
    for attempt in attempts:
        assert kinds(attempt) == [("link", "it", False), ("parked", "", False)]
        assert "the model is busy" in attempt.events[-1].text
        assert "secret" not in str(attempt)


def test_a_dead_letter_tells_why(redis_url: str) -> None:
    with SteppedWorker(redis_url, links=[link("it", _reject)]) as worker:
        uuid = submit(worker.queue, "j1")
        worker.work()
        [attempt] = told(worker, uuid)
        assert worker.client.ttl(keys.story(uuid)) > worker.boot.settings.job_expiry_s
    assert kinds(attempt) == [("link", "it", False), ("failed", "", False)]
    assert attempt.events[-1].text == "rejected: nobody can read it"


def test_a_storage_that_is_away(redis_url: str) -> None:
    shelf = unique("shelf-")
    memory.shelf(shelf).on_save.append(memory.away())
    with SteppedWorker(redis_url, links=[link("a", tag)], storages=[storage(shelf)]) as worker:
        uuid = submit(worker.queue, "j1")
        worker.run(worker.claim_one())
        worker.store()
        [attempt] = told(worker, uuid)
    assert kinds(attempt)[-2:] == [("storage", shelf, False), ("parked", "", False)]
    assert shelf in attempt.events[-1].text


@pytest.mark.parametrize(("which", "attempts"), [("jobs", 0), ("off", 0), ("all", 1)])
def test_of_which_items_it_is_told(redis_url: str, which: str, attempts: int) -> None:
    with SteppedWorker(redis_url, links=[link("a", tag)], stories=which) as worker:
        [uuid] = worker.supply(1)
        worker.work()
        assert len(told(worker, uuid)) == attempts
        followed = submit(worker.queue, "j1")
        worker.work()
        assert len(told(worker, followed)) == (which != "off")


def test_it_is_told_within_a_second_or_two(redis_url: str) -> None:
    worker = RunningWorker(redis_url, links=[link("a", tag)])
    with worker:
        uuid = submit(worker.queue, "j1")
        # On a busy machine the item may be released once before it begins, which is told, too.
        end = ("completed", "out", True)
        eventually(lambda: end in [kind for one in told(worker, uuid) for kind in kinds(one)])


def test_what_cannot_be_told_stands_in_nobodys_way(redis_url: str) -> None:
    with SteppedWorker(redis_url, links=[link("a", tag)]) as worker:
        uuid = submit(worker.queue, "j1")
        worker.client.set(keys.story(uuid), "another type")
        worker.work()
        worker.story_writer.flush()
        assert worker.out() == [uuid]
        assert worker.client.get(keys.story(uuid)) == b"another type"
        again = submit(worker.queue, "j2")
        worker.work()
        assert len(told(worker, again)) == 1


def test_a_story_is_bounded(redis_url: str) -> None:
    def many(vcon: Vcon, context: Any) -> Vcon:
        for number in range(EVENTS_MAX * 2):
            vcon.add_tag("n", str(number))
            context.checkpoint()
        raise Retry(0, "x" * 10_000)

    with SteppedWorker(redis_url, links=[link("it", many)]) as worker:
        uuid = submit(worker.queue, "j1")
        worker.work()
        [attempt] = told(worker, uuid)
        assert len(attempt.events) <= EVENTS_MAX
        assert kinds(attempt)[-1][0] == "parked"
        assert len(attempt.dump()) < 10_000
        for number in range(ATTEMPTS_MAX + 5):
            made = Attempt("t", number + 2, "j1", "in", "main", "h", "c", number)
            for command in stories.commands(uuid, made, 60):
                worker.client.execute_command(*command)
        assert len(told(worker, uuid)) == ATTEMPTS_MAX


def test_what_is_no_attempt_is_left_out_and_the_last_telling_holds() -> None:
    def attempt(*ends: str) -> Attempt:
        events = [Event(kind, "", n, n) for n, kind in enumerate(ends)]
        return Attempt("t", 1, "j", "in", "main", "h", "c", 1, events=events)

    members = [b"", b"{}", b"[]", b"[1, 2]", b"[1, [[]]]", attempt("a", "b").dump()]
    [found] = stories.load([*members, attempt("a").dump()])
    assert [event.kind for event in found.events] == ["a", "b"]
