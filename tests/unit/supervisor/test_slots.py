"""Whom a death is blamed on, and how long the next child has to wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from conserver.config.settings import Settings
from conserver.process.messages import receive
from conserver.supervisor.child import Child
from conserver.supervisor.resources import SharedResources
from conserver.supervisor.slots import BACKOFF_S_MAX, LONG_LIFE_S, Backoff, ChildSlot, Verdict
from conserver.supervisor.time_limits import Overdue

NOBODY = {"blame": "nobody", "items": [], "counted": [], "notes": {}}
SUSPECTED = [["running", 2], ["storing", 3], ["paused", 4]]
CRASH = -9


class Living:
    """As much of a child as a post looks at."""

    pid = 7
    ready = True
    killed = 0

    def kill(self) -> None:
        self.killed += 1


@pytest.fixture
def post() -> Iterator[ChildSlot]:
    """A post whose child has an item in every phase."""
    resources = SharedResources(1)
    post = ChildSlot("worker", resources.workers[0])
    post.fill(cast("Child", Living()), 1, Settings())
    status = post.slot.status
    for slot, token in enumerate(("held", "running", "storing", "paused")):
        status.hold(slot, token, slot + 1, "uuid", "chain")
    status.run(1, "link")
    status.store(2)
    status.run(3, "link")
    status.pause(3)
    yield post
    resources.close()


def suspected(post: ChildSlot, code: int | None) -> list[Any]:
    """Whom a death is blamed on, by suspicion alone."""
    blame = post.blame(code)
    assert (blame["blame"], blame["counted"]) == ("items", [])
    return list(blame["items"])


def finish(post: ChildSlot) -> None:
    """Nothing is at work any more."""
    for item in post.slot.status.read().items:
        post.slot.status.free(item.slot)


def test_the_wait_grows_while_they_keep_dying() -> None:
    backoff = Backoff()
    waits = [backoff.after_s(0.1) for _ in range(9)]
    assert waits == [0, 1, 2, 4, 8, 16, BACKOFF_S_MAX, BACKOFF_S_MAX, BACKOFF_S_MAX]
    assert backoff.after_s(LONG_LIFE_S) == 0
    assert backoff.after_s(0.1) == 1


def test_the_wait_stays_short_where_an_item_is_blamed() -> None:
    # A hundred poisons are four hundred deaths: at half a minute each there would be no service.
    backoff = Backoff()
    assert [backoff.after_s(0.1, blamed=True) for _ in range(5)] == [0, 1, 1, 1, 1]
    assert backoff.after_s(0.1) == 16, "they count all the same"


def test_a_crash_is_blamed_on_what_ran(post: ChildSlot) -> None:
    assert suspected(post, CRASH) == SUSPECTED
    assert suspected(post, 1) == SUSPECTED
    assert suspected(post, None) == SUSPECTED
    assert post.crashed(CRASH)
    assert not post.left_as_planned(CRASH)


def test_the_blamed_are_named_by_their_vcons(post: ChildSlot) -> None:
    """An operator looks for a uuid in the log; before it was read, there is only the token."""
    post.slot.status.hold(1, "running", 2, "", "chain")
    post.slot.status.run(1, "link")
    assert post.blamed_vcons(post.blame(CRASH)) == ["running", "uuid", "uuid"]
    assert post.blamed_vcons(NOBODY) == []


def test_a_stall_is_blamed_on_what_ran(post: ChildSlot) -> None:
    post.kill(Verdict.STALLED)
    assert suspected(post, CRASH) == SUSPECTED


def test_a_time_limit_is_blamed_on_the_overdue_item_alone_which_is_counted(post: ChildSlot) -> None:
    post.kill(Verdict.OVERDUE, Overdue(post.slot.status.read().items[1], "link", 5.0))
    assert post.blame(CRASH) == {
        "blame": "items",
        "items": [["running", 2]],
        "counted": ["running"],
        "notes": {
            "running": {
                "reason": "time_limit",
                "link": "link",
                "error": "was killed because the link link ran longer than its hard_timeout_s of"
                " 5 s",
            }
        },
    }
    assert post.left_as_planned(CRASH), "the worker is replaced at once, however often"


def test_a_dead_letter_can_tell_how_its_worker_died(post: ChildSlot) -> None:
    notes = post.blame(-11)["notes"]
    killed = "was killed by signal 11 (Segmentation fault)"
    assert notes == {
        "": {"error": killed},
        "running": {"error": f"{killed} in the link link", "link": "link"},
        "storing": {"error": f"{killed} while it was stored"},
        "paused": {"error": f"{killed} in the link link", "link": "link"},
    }
    assert post.blame(3)["notes"][""] == {"error": "ended with exit code 3"}
    post.kill(Verdict.STALLED)
    assert post.blame(CRASH)["notes"][""] == {"error": "was killed because it stood still"}


def test_the_first_reason_to_kill_counts(post: ChildSlot) -> None:
    post.kill(Verdict.OVERDUE, Overdue(post.slot.status.read().items[1], "chain", 5.0))
    post.kill(Verdict.OURS)
    assert post.blame(CRASH)["counted"] == ["running"]
    assert cast("Any", post.child).killed == 2


def test_nobody_is_blamed_for_what_we_did(post: ChildSlot) -> None:
    post.part("shutdown", 1.0)
    post.kill(Verdict.OURS)
    assert post.blame(CRASH) == NOBODY


def test_nobody_is_blamed_for_an_end_of_the_workers_own_will(post: ChildSlot) -> None:
    post.farewell = cast("Any", "void")
    assert post.blame(CRASH) == NOBODY, "its items have been given to others"
    post.farewell = ""
    finish(post)
    for why in ("", "retiring", "recycling"):
        post.farewell = cast("Any", why)
        assert post.blame(0) == NOBODY, "nothing was at work"
        assert not post.crashed(0)


def test_who_exits_with_0_in_the_middle_of_work_has_crashed(post: ChildSlot) -> None:
    assert suspected(post, 0) == SUSPECTED
    assert post.crashed(0)
    assert post.blame(0)["notes"]["running"]["error"] == "ended with exit code 0 in the link link"
    post.farewell = "retiring"
    assert suspected(post, 0) == SUSPECTED
    assert suspected(post, CRASH) == SUSPECTED


def test_a_crash_while_draining_is_a_crash(post: ChildSlot) -> None:
    post.part("reload", 1.0)
    assert suspected(post, CRASH) == SUSPECTED
    assert not post.left_as_planned(CRASH)
    assert not post.left_as_planned(0)
    finish(post)
    assert post.left_as_planned(0)


def test_a_worker_that_did_nothing_has_no_right_to_be_replaced_at_once(post: ChildSlot) -> None:
    post.part("recycling", 1.0)
    finish(post)
    assert not post.left_as_planned(0)
    post.slot.status.count(failed=1)
    assert post.left_as_planned(0)


def test_a_child_is_asked_once_to_leave(post: ChildSlot) -> None:
    post.part("recycling", 1.0)
    post.part("shutdown", 2.0)
    assert receive(post.slot.theirs) == [{"type": "drain"}]
    assert (post.farewell, post.farewell_at_s) == ("recycling", 1.0)
    assert not post.serving


def test_a_new_child_starts_with_a_clean_slate(post: ChildSlot) -> None:
    post.part("reload", 1.0)
    post.kill(Verdict.OURS)
    post.vacate()
    assert post.vacant
    post.slot.renew()
    assert receive(post.slot.theirs) == []
    assert post.slot.status.read().items == ()
    post.fill(cast("Child", Living()), 2, Settings())
    assert (post.farewell, post.verdict, post.restarts) == ("", Verdict.NONE, 1)
    assert post.serving
