"""Which items a death counts against, and whether the replacement has to wait."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from conserver.process.messages import Blame, Blamed
from conserver.process.shared_status import Phase, SharedStatus, StatusView
from conserver.supervisor.death import Death, KillReason, LeaveReason, LimitExceeded

AT_WORK = [("running", 2), ("storing", 3), ("paused", 4)]
KILLED = -9


@pytest.fixture
def view() -> StatusView:
    """What a worker shows that has an item in every phase."""
    status = SharedStatus.create()
    for slot, token in enumerate(("held", "running", "storing", "paused")):
        status.hold(slot, token, slot + 1, "uuid", "chain")
    status.start_link(1, "link")
    status.set_phase(2, Phase.FINISHING)
    status.start_link(3, "link")
    status.set_phase(3, Phase.UNTIMED)
    view = status.read()
    status.close()
    return view


def idle(view: StatusView, failed: int = 0) -> StatusView:
    """The same worker when no item is left."""
    return replace(view, items=(), items_failed=failed)


def suspects(death: Death) -> list[Any]:
    """The blamed items, of which none is counted."""
    blame = death.blame()
    assert (blame.kind, [item for item in blame.items if item.counts]) == ("items", [])
    return [(item.token, item.epoch) for item in blame.items]


@pytest.mark.parametrize("code", [KILLED, 1, None])
def test_a_crash_is_blamed_on_what_was_at_work(view: StatusView, code: int | None) -> None:
    death = Death(code, view)
    assert suspects(death) == AT_WORK
    assert death.crashed
    assert not death.spares_backoff


def test_blamed_vcons_are_uuids(view: StatusView) -> None:
    """An operator looks for a uuid in the log; before it was read, there is only the token."""
    running = replace(view.items[1], uuid="")
    view = replace(view, items=(view.items[0], running, *view.items[2:]))
    assert Death(KILLED, view).blamed_vcons() == ["running", "uuid", "uuid"]
    assert Death(KILLED, view, KillReason.UNNEEDED).blamed_vcons() == []


def test_a_stall_is_blamed_on_what_was_at_work(view: StatusView) -> None:
    death = Death(KILLED, view, KillReason.STALLED)
    assert suspects(death) == AT_WORK
    assert not death.crashed
    assert not death.spares_backoff


def test_a_time_limit_is_blamed_on_its_item_alone_which_is_counted(view: StatusView) -> None:
    exceeded = LimitExceeded(view.items[1], "link", 5.0)
    death = Death(KILLED, view, KillReason.TIME_LIMIT, exceeded)
    note = {
        "reason": "time_limit",
        "link": "link",
        "error": "was killed because the link link ran longer than its hard_timeout_s of 5 s",
    }
    assert death.blame() == Blame("items", [Blamed("running", 2, True, note)])
    assert death.spares_backoff, "the worker is replaced at once, however often"


def test_a_dead_letter_can_say_how_its_worker_died(view: StatusView) -> None:
    killed = "was killed by signal 11 (Segmentation fault)"
    blame = Death(-11, view).blame()
    assert blame.note == {"error": killed}
    assert {item.token: item.note for item in blame.items} == {
        "running": {"error": f"{killed} in the link link", "link": "link"},
        "storing": {"error": f"{killed} while it waited for a storage or for Redis"},
        "paused": {"error": f"{killed} in the link link", "link": "link"},
    }
    assert Death(3, view).blame().note == {"error": "ended with exit code 3"}
    stalled = Death(KILLED, view, KillReason.STALLED).blame()
    assert stalled.note == {"error": "was killed because it stood still"}


def test_no_item_is_blamed_for_what_the_supervisor_did(view: StatusView) -> None:
    for reason in (None, LeaveReason.SHUTDOWN, LeaveReason.RELOAD):
        death = Death(KILLED, view, KillReason.UNNEEDED, leave_reason=reason)
        assert death.blame() == Blame()


def test_no_item_is_blamed_for_a_clean_exit(view: StatusView) -> None:
    void = Death(KILLED, view, leave_reason=LeaveReason.VOID)
    assert void.blame() == Blame(), "its items have been given to others"
    for reason in (None, LeaveReason.RETIRING, LeaveReason.RECYCLING):
        death = Death(0, idle(view), leave_reason=reason)
        assert death.blame() == Blame(), "nothing was at work"
        assert not death.crashed


def test_an_exit_with_0_in_the_middle_of_work_is_a_crash(view: StatusView) -> None:
    death = Death(0, view)
    assert suspects(death) == AT_WORK
    assert death.crashed
    assert death.blame().items[0].note["error"] == "ended with exit code 0 in the link link"
    for code in (0, KILLED):
        assert suspects(Death(code, view, leave_reason=LeaveReason.RETIRING)) == AT_WORK


def test_a_crash_while_draining_is_a_crash(view: StatusView) -> None:
    death = Death(KILLED, view, leave_reason=LeaveReason.RELOAD)
    assert suspects(death) == AT_WORK
    assert not death.spares_backoff
    assert not Death(0, view, leave_reason=LeaveReason.RELOAD).spares_backoff
    assert Death(0, idle(view), leave_reason=LeaveReason.RELOAD).spares_backoff


def test_a_worker_that_has_done_nothing_is_not_replaced_at_once(view: StatusView) -> None:
    assert not Death(0, idle(view), leave_reason=LeaveReason.RECYCLING).spares_backoff
    assert Death(0, idle(view, failed=1), leave_reason=LeaveReason.RECYCLING).spares_backoff
