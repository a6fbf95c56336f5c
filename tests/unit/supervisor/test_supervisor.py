"""The set of children: who is started, blamed, replaced and ended, by every start method.

The supervisor runs in a process of its own with tiny workers and a tiny coordinator (children.py):
real processes, no Redis.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.helpers import eventually
from tests.process.children import Scenario
from tests.process.house import SOON_S, House, alive, house, seconds_since, title

METHODS = ("fork", "spawn", "forkserver")
by_every_method = pytest.mark.parametrize("home", METHODS, indirect=True)

RUNNING = ["token-running", 2]
STORING = ["token-storing", 3]
OVERDUE = ["token-overdue", 3]


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    with house(tmp_path, getattr(request, "param", "fork")) as home:
        yield home


def kill(pid: int) -> float:
    """Kill a process; returns when."""
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()


# Life without trouble.


@by_every_method
def test_registers_starts_and_ends_in_order_promptly(home: House) -> None:
    home.start(Scenario(), workers=2).until_ready(3)
    titles = [title(event["pid"]) for event in home.events(event="born")]
    assert sorted(titles) == [
        "conserver: coordinator",
        "conserver: worker 1 of 2",
        "conserver: worker 2 of 2",
    ]
    assert title(home.pid) == "conserver: supervisor"
    registered = home.told("register")
    assert [order["lists"] for order in registered] == [["calls", "chats"]] * 2
    born = {event["consumer"] for event in home.events("worker", "born")}
    assert born == {order["consumer"] for order in registered}
    assert not any(event["imported"] for event in home.events("worker", "born"))

    began_s = time.monotonic()
    home.signal(signal.SIGTERM)
    assert home.wait() == 0
    assert seconds_since(began_s) < SOON_S
    assert {order["consumer"] for order in home.told("return")} == born
    assert {order["blame"] for order in home.told("return")} == {"nobody"}
    assert home.told("drain") == [{"type": "drain", "successor": False}]
    assert home.events()[-1]["message"]["type"] == "drain"
    home.until(lambda: not home.pids())


def test_no_worker_starts_before_it_is_registered(home: House) -> None:
    # Its first claim would find no registration, and end it.
    home.start(Scenario(coordinator="acknowledges nothing"), workers=2)
    states = home.until(lambda: [told["workers"] for told in home.told("state")])
    # Told right behind the orders, before anybody can have acknowledged them.
    assert [(worker["state"], worker["pid"]) for worker in states[0]] == [("registering", 0)] * 2
    home.until(lambda: len(home.told("state")) > 1)
    assert len(home.told("register")) == 2
    assert not home.events("worker", "born")


def test_a_signal_to_the_whole_group_is_the_same_order(home: House) -> None:
    home.start(Scenario(worker="holds items"), workers=2).until_ready(3)
    home.signal_group(signal.SIGINT)
    assert home.wait() == 0
    assert len(home.events("worker", "drained")) == 2
    assert {order["blame"] for order in home.told("return")} == {"nobody"}
    assert home.log("stopping_now") == []
    home.until(lambda: not home.pids())


def test_forked_children_hold_nothing_that_is_not_theirs(home: House) -> None:
    home.start(Scenario(), workers=2).until_ready(3)
    kill(home.births("worker-1")[0]["pid"])
    for event in (home.until_born("worker-1", 2), home.births("worker-2")[0]):
        # Output twice, input, shared status twice, lifeline, stop twice, sockets to supervisor and
        # coordinator.
        assert len(event["descriptors"]) == 10, event["descriptors"]
    (coordinator,) = home.births("coordinator")
    statuses = [name for name in coordinator["descriptors"] if "conserver-status" in name]
    assert len(statuses) == 6
    assert len(coordinator["descriptors"]) == 3 + 6 + 1 + 2 + 1 + 2, coordinator["descriptors"]


@by_every_method
def test_closed_standard_descriptors_do_no_harm(home: House) -> None:
    home.start(Scenario(), workers=2, redirect="<&- >&- 2>&-")
    for who in ("worker-1", "worker-2"):
        home.until_born(who, 1)
    home.until(lambda: len(home.told("children")[-1:]) == 1)
    home.signal(signal.SIGTERM)
    assert home.wait() == 0
    assert len(home.events("worker", "drained")) == 2


# Deaths.


@by_every_method
def test_a_killed_worker_is_replaced_and_what_it_ran_is_suspected(home: House) -> None:
    home.start(Scenario(worker="holds items"), workers=2).until_ready(3)
    first = home.births("worker-1")[0]
    killed_s = kill(first["pid"])
    second = home.until_born("worker-1", 2)
    assert second["at"] - killed_s < 1
    assert second["consumer"] != first["consumer"]
    (order,) = home.told("return")
    assert order["consumer"] == first["consumer"]
    assert (order["blame"], order["counted"]) == ("items", [])
    assert order["items"] == [RUNNING, STORING]
    assert len(home.births("worker-2")) == 1
    home.until(lambda: second["consumer"] in home.told("children")[-1]["consumers"])
    assert first["consumer"] not in home.told("children")[-1]["consumers"]


def test_a_worker_that_keeps_dying_comes_back_later_and_later(home: House) -> None:
    home.start(Scenario(worker="dies", later="dies"), workers=2)
    home.until_born("worker-1", 4, timeout_s=20)
    born = [event["at"] for event in home.births("worker-1")]
    waits = [after - before for before, after in pairwise(born)]
    assert waits[0] < 0.9
    assert waits[1] > 0.9
    assert waits[2] > 1.9
    states = [worker for told in home.told("state") for worker in told["workers"]]
    assert any(worker["backoff_s"] > 0 and worker["state"] == "waiting" for worker in states)
    assert any(worker["restarts"] == 3 for worker in states)
    began_s = time.monotonic()
    home.signal(signal.SIGTERM)
    assert home.wait() == 0
    assert seconds_since(began_s) < SOON_S


def test_a_stalled_worker_is_killed_and_what_it_ran_is_suspected(home: House) -> None:
    settings = {"stall_timeout_s": 1.5}
    home.start(Scenario(worker="stands still", settings=settings)).until_ready()
    second = home.until_born("worker-1", 2)
    lived_s = second["at"] - home.births("worker-1")[0]["at"]
    assert 1.4 < lived_s < 5
    (order,) = home.told("return")
    assert order["items"] == [RUNNING, STORING]
    assert order["counted"] == []
    assert len(home.log("child_stalled")) == 1


def test_a_stopped_worker_is_killed_too(home: House) -> None:
    home.start(Scenario(settings={"stall_timeout_s": 1.5})).until_ready()
    os.kill(home.births("worker-1")[0]["pid"], signal.SIGSTOP)
    home.until_born("worker-1", 2)


def test_a_paused_host_charges_nobody(home: House) -> None:
    settings = {"stall_timeout_s": 2}
    home.start(Scenario(settings=settings), workers=2).until_ready(3)
    home.signal_group(signal.SIGSTOP)
    paused_s = time.monotonic()
    eventually(lambda: seconds_since(paused_s) > 4)
    home.signal_group(signal.SIGCONT)
    states = len(home.told("state"))
    home.until(lambda: len(home.told("state")) > states + 1)
    assert home.log("child_stalled") == []
    assert len(home.events(event="born")) == 3


@pytest.mark.parametrize("does", ["overdue link", "overdue chain"])
def test_a_hard_limit_counts_the_overdue_item_alone(home: House, does: str) -> None:
    home.start(Scenario(worker=does))
    home.until_born("worker-1", 2)
    (order,) = home.told("return")
    assert (order["items"], order["counted"]) == ([OVERDUE], ["token-overdue"])
    (line,) = home.log("hard_time_limit_passed")
    assert (line["vcon"], line["link"]) == ("uuid-overdue", "links.endless")


def test_a_worker_whose_registration_is_void_comes_back_under_a_new_id(home: House) -> None:
    home.start(Scenario(worker="void"))
    second = home.until_born("worker-1", 2)
    assert second["consumer"] != home.births("worker-1")[0]["consumer"]
    assert home.told("return")[0]["blame"] == "nobody"


def test_a_killed_coordinator_is_replaced_and_told_again(home: House) -> None:
    home.start(Scenario(worker="holds items", coordinator="dies with the first return"))
    home.until_ready()
    worker = home.births("worker-1")[0]
    kill(worker["pid"])
    home.until_born("coordinator", 2)
    home.until_born("worker-1", 2)
    first, again = home.told("return")
    assert first == again
    assert again["consumer"] == worker["consumer"]
    home.until(lambda: home.told("children")[-1]["consumers"] != [])
    home.signal(signal.SIGTERM)
    assert home.wait() == 0


def test_coordinator_and_worker_killed_together_are_replaced(home: House) -> None:
    home.start(Scenario(worker="holds items"), workers=2).until_ready(3)
    worker = home.births("worker-2")[0]
    killed_s = kill(worker["pid"])
    kill(home.births("coordinator")[0]["pid"])
    assert home.until_born("worker-2", 2)["at"] - killed_s < 2
    assert home.told("return")[-1]["items"] == [RUNNING, STORING]
    assert len(home.births("worker-1")) == 1


@pytest.mark.parametrize("home", ["forkserver"], indirect=True)
def test_a_killed_forkserver_costs_no_child_and_stops_no_replacement(home: House) -> None:
    home.start(Scenario(), workers=2).until_ready(3)
    (forkserver,) = [pid for pid in home.pids() if "forkserver" in title(pid)]
    kill(forkserver)
    stamps = len(home.told("state"))
    home.until(lambda: len(home.told("state")) > stamps)
    assert len(home.events(event="born")) == 3
    worker = home.births("worker-1")[0]["pid"]
    killed_s = kill(worker)
    assert home.until_born("worker-1", 2)["at"] - killed_s < 3
    home.signal(signal.SIGTERM)
    assert home.wait() == 0
    home.until(lambda: not home.pids())


@by_every_method
def test_a_killed_supervisor_leaves_no_orphan(home: House) -> None:
    home.start(Scenario(), workers=2).until_ready(3)
    killed_s = kill(home.pid)
    home.wait()
    home.until(lambda: not home.pids())
    assert seconds_since(killed_s) < SOON_S
    assert len(home.events(event="orphaned")) == 3


@by_every_method
def test_an_error_of_the_supervisors_own_leaves_no_orphan(home: House) -> None:
    home.start(Scenario(worker="babbles"), workers=2)
    assert home.wait() == 1
    assert len(home.log("process_died")) == 1
    home.until(lambda: not home.pids())


# The end.


def test_what_does_not_end_by_the_deadline_is_killed_and_not_blamed(home: House) -> None:
    settings = {"shutdown_timeout_s": 1}
    home.start(Scenario(worker="deaf", settings=settings), workers=2).until_ready(3)
    began_s = time.monotonic()
    home.signal(signal.SIGTERM)
    assert home.wait() == 0
    assert 1 <= seconds_since(began_s) < 1 + SOON_S
    assert [(order["blame"], order["items"]) for order in home.told("return")] == [
        ("nobody", []),
        ("nobody", []),
    ]
    assert len(home.log("drain_deadline_passed")) == 1


def test_a_second_signal_means_now(home: House) -> None:
    home.start(Scenario(worker="deaf")).until_ready()
    home.signal(signal.SIGTERM)
    home.signal(signal.SIGINT)  # The same wish, as an init may send it.
    first_s = time.monotonic()
    eventually(lambda: seconds_since(first_s) > 0.6)  # Later than half a second: a second wish.
    home.until(lambda: home.log("draining"))
    assert home.log("stopping_now") == []
    began_s = time.monotonic()
    home.signal(signal.SIGINT)
    assert home.wait() == 0
    assert seconds_since(began_s) < SOON_S
    assert home.told("return")[0]["blame"] == "nobody"


def test_a_worker_that_dies_in_the_drain_is_a_crash_and_not_replaced(home: House) -> None:
    settings = {"shutdown_timeout_s": 10}
    home.start(Scenario(worker="deaf", settings=settings)).until_ready()
    home.signal(signal.SIGTERM)
    home.until(lambda: home.log("draining"))
    kill(home.births("worker-1")[0]["pid"])
    assert home.wait(5) == 0
    assert home.told("return")[0]["items"] == [RUNNING, STORING]
    assert len(home.births("worker-1")) == 1


def test_a_coordinator_that_dies_in_the_drain_is_replaced_for_the_returns(home: House) -> None:
    scenario = Scenario(worker="holds items", coordinator="dies with the first return")
    home.start(scenario).until_ready()
    home.signal(signal.SIGTERM)
    assert home.wait(10) == 0
    assert len(home.births("coordinator")) == 2
    assert len(home.told("return")) == 2


# Boot failures.


@pytest.mark.parametrize(
    ("scenario", "code", "reason"),
    [
        (Scenario(worker="misconfigured"), 78, "links.nonsense: there is no such module"),
        (Scenario(coordinator="misconfigured"), 69, "Redis does not answer at redis://nowhere"),
        (Scenario(worker="dies unborn"), 70, "it ended with exit code 5 before it was ready"),
    ],
)
def test_a_child_that_cannot_start_ends_all_with_its_message(
    home: House, scenario: Scenario, code: int, reason: str
) -> None:
    home.start(scenario)
    assert home.wait() == code
    (line,) = home.log("boot_failed")
    assert line["reason"] == reason
    assert len(home.births("worker-1")) <= 1
    home.until(lambda: not home.pids())


def test_a_child_that_never_gets_ready_is_a_boot_failure_when_it_stands_still(home: House) -> None:
    settings = {"stall_timeout_s": 1, "boot_timeout_s": 1.5}
    home.start(Scenario(worker="never ready", settings=settings))
    home.until(lambda: home.births("worker-1"))
    os.kill(home.births("worker-1")[0]["pid"], signal.SIGSTOP)
    assert home.wait(10) == 70


def test_a_stop_while_the_coordinator_waits_for_redis_is_obeyed_at_once(home: House) -> None:
    home.start(Scenario(coordinator="never ready"))
    home.until(lambda: home.births("coordinator"))
    began_s = time.monotonic()
    home.signal(signal.SIGTERM)
    assert home.wait() == 0
    assert seconds_since(began_s) < SOON_S


def test_a_child_that_cannot_start_later_is_a_crash_like_another(home: House) -> None:
    home.start(Scenario(later="misconfigured"), workers=2).until_ready(3)
    kill(home.births("worker-1")[0]["pid"])
    home.until_born("worker-1", 3)
    assert home.log("boot_failed") == []
    reasons = [line["reason"] for line in home.log("child_died")]
    assert "links.nonsense: there is no such module" in reasons
    assert alive(home.births("worker-2")[0]["pid"])


# Planned replacements.


@by_every_method
def test_a_reload_replaces_all_one_by_one_and_the_coordinator_last(home: House) -> None:
    home.start(Scenario(mark="old"), workers=2).until_ready(3)
    home.rewrite(Scenario(mark="new"))
    home.signal(signal.SIGHUP)
    home.until_born("coordinator", 2)
    born = [(event["who"], event["mark"]) for event in home.events(event="born")]
    assert born[3:] == [("worker-1", "new"), ("worker-2", "new"), ("coordinator", "new")]
    drained = [event["at"] for event in home.events("worker", "drained")]
    assert drained[1] > home.births("worker-1")[1]["at"]
    assert home.told("drain") == [{"type": "drain", "successor": True}]
    assert {order["blame"] for order in home.told("return")} == {"nobody"}
    home.signal(signal.SIGTERM)
    assert home.wait() == 0


def test_a_bad_reload_is_refused_and_changes_nothing(home: House) -> None:
    home.start(Scenario(), workers=2).until_ready(3)
    (home.folder / "scenario.json").write_text("{ this is no scenario")
    home.signal(signal.SIGHUP)
    home.until(lambda: home.log("reload_refused"))
    assert "scenario.json" in home.log("reload_refused")[0]["reason"]
    # A crash afterwards is replaced with what was good.
    kill(home.births("worker-1")[0]["pid"])
    home.until_born("worker-1", 2)
    assert len(home.events(event="born")) == 4


def test_a_reload_stops_at_the_first_worker_that_cannot_live_with_it(home: House) -> None:
    home.start(Scenario(mark="old"), workers=2).until_ready(3)
    home.rewrite(Scenario(later="misconfigured", mark="bad"))
    home.signal(signal.SIGHUP)
    home.until_born("worker-1", 3)
    assert [event["mark"] for event in home.births("worker-2")] == ["old"]
    home.rewrite(Scenario(mark="good"))
    home.signal(signal.SIGHUP)
    home.until_born("coordinator", 2)
    assert home.births("worker-1")[-1]["mark"] == "good"
    assert [event["mark"] for event in home.births("worker-2")] == ["old", "good"]


@pytest.mark.parametrize(
    ("does", "settings"),
    [("works", {"max_items_per_worker": 100}), ("grows", {"max_worker_memory": 1 << 30})],
)
def test_workers_that_had_their_share_are_replaced_one_by_one(
    home: House, does: str, settings: dict[str, int]
) -> None:
    home.start(Scenario(worker=does, settings=settings), workers=2).until_ready(3)
    home.until(lambda: len(home.births("worker-1")) == len(home.births("worker-2")) == 2)
    drained = [event["at"] for event in home.events("worker", "drained")]
    reborn = [home.births(who)[1]["at"] for who in ("worker-1", "worker-2")]
    assert drained[1] > min(reborn)
    assert {order["blame"] for order in home.told("return")} == {"nobody"}
    assert len(home.log("worker_recycled")) == 2


def test_nobody_has_to_go_before_the_replacement_of_the_last_one_is_ready(home: House) -> None:
    settings = {"max_items_per_worker": 100}
    scenario = Scenario(worker="works", later="never ready", settings=settings)
    home.start(scenario, workers=2)
    home.until(lambda: len(home.events("worker", "born")) == 3)
    states = len(home.told("state"))
    # It is told on a change, then every two seconds; before each time the pages are looked at.
    home.until(lambda: len(home.told("state")) > states + 2)
    assert len(home.log("worker_recycled")) == len(home.events("worker", "drained")) == 1


def test_a_worker_may_retire_by_itself(home: House) -> None:
    home.start(Scenario(worker="retires"))
    home.until_born("worker-1", 2)
    assert home.told("return")[0]["blame"] == "nobody"
    assert home.log("child_died") == []
