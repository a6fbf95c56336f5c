"""The supervisor: starts, deaths, shutdown and replacements of its children.

It runs in its own process, with the tiny workers and the tiny coordinator of
tests/process/children.py: real processes, no Redis.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from conserver.queue.keys import NOTIFICATIONS
from tests.helpers import eventually
from tests.process.children import Scenario
from tests.process.host import SOON_S, Host, alive, new_host, seconds_since, title

pytestmark = pytest.mark.real_time

METHODS = ("fork", "spawn", "forkserver")
by_every_method = pytest.mark.parametrize("host", METHODS, indirect=True)

# Token, epoch, and whether the death counts against the item.
RUNNING = ["token-running", 2, False]
FINISHING = ["token-storing", 3, False]
SLOW = ["token-slow", 3, True]


@pytest.fixture
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    with new_host(tmp_path, getattr(request, "param", "fork")) as host:
        yield host


def blamed(order: dict[str, Any]) -> list[Any]:
    """The items that a return order blames, without their notes."""
    return [item[:3] for item in order["blame"]["items"]]


def kill(pid: int) -> float:
    """Kill a process. Returns the time.monotonic() of that."""
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()


# Start and stop.


@by_every_method
def test_registers_starts_and_ends_in_order_promptly(host: Host) -> None:
    host.start(Scenario(), workers=2).until_ready(3)
    titles = [title(event["pid"]) for event in host.events(event="started")]
    assert sorted(titles) == [
        "conserver: coordinator",
        "conserver: worker 1 of 2",
        "conserver: worker 2 of 2",
    ]
    assert title(host.pid) == "conserver: supervisor"
    registered = host.received("register")
    assert [order["lists"] for order in registered] == [["calls", "chats", NOTIFICATIONS]] * 2
    consumers = {event["consumer"] for event in host.events("worker", "started")}
    assert consumers == {order["consumer"] for order in registered}
    assert not any(event["imported"] for event in host.events("worker", "started"))

    began_s = time.monotonic()
    host.signal(signal.SIGTERM)
    assert host.wait() == 0
    assert seconds_since(began_s) < SOON_S
    assert {order["consumer"] for order in host.received("return")} == consumers
    assert {order["blame"]["kind"] for order in host.received("return")} == {"nobody"}
    assert host.received("drain") == [{"type": "drain", "successor": False, "patient": False}]
    assert host.events()[-1]["message"]["type"] == "drain"
    host.until(lambda: not host.pids())


def test_no_worker_starts_before_it_is_registered(host: Host) -> None:
    # Its first claim would find no registration, and it would exit.
    host.start(Scenario(coordinator="acknowledges nothing"), workers=2)
    states = host.until(lambda: [state["workers"] for state in host.received("state")])
    # Sent right after the orders, before they can have been acknowledged.
    assert [(worker["state"], worker["pid"]) for worker in states[0]] == [("registering", 0)] * 2
    host.until(lambda: len(host.received("state")) > 1)
    assert len(host.received("register")) == 2
    assert not host.events("worker", "started")


def test_a_signal_to_the_whole_group_counts_once(host: Host) -> None:
    host.start(Scenario(worker="holds items"), workers=2).until_ready(3)
    host.signal_group(signal.SIGINT)
    assert host.wait() == 0
    assert len(host.events("worker", "drained")) == 2
    assert {order["blame"]["kind"] for order in host.received("return")} == {"nobody"}
    assert host.log("stopping_now") == []
    host.until(lambda: not host.pids())


def test_forked_children_hold_no_descriptors_but_their_own(host: Host) -> None:
    host.start(Scenario(), workers=2).until_ready(3)
    kill(host.starts("worker-1")[0]["pid"])
    for event in (host.until_started("worker-1", 2), host.starts("worker-2")[0]):
        # Output twice, input, shared status twice, lifeline, stop twice, sockets to supervisor and
        # coordinator.
        assert len(event["descriptors"]) == 10, event["descriptors"]
    (coordinator,) = host.starts("coordinator")
    statuses = [name for name in coordinator["descriptors"] if "conserver-status" in name]
    assert len(statuses) == 6
    assert len(coordinator["descriptors"]) == 3 + 6 + 1 + 2 + 1 + 2, coordinator["descriptors"]


@by_every_method
def test_closed_standard_descriptors_do_no_harm(host: Host) -> None:
    host.start(Scenario(), workers=2, redirect="<&- >&- 2>&-")
    for who in ("worker-1", "worker-2"):
        host.until_started(who, 1)
    host.until(lambda: len(host.received("children")[-1:]) == 1)
    host.signal(signal.SIGTERM)
    assert host.wait() == 0
    assert len(host.events("worker", "drained")) == 2


# Deaths.


@by_every_method
def test_a_killed_worker_is_replaced_and_its_items_become_suspects(host: Host) -> None:
    host.start(Scenario(worker="holds items"), workers=2).until_ready(3)
    first = host.starts("worker-1")[0]
    killed_s = kill(first["pid"])
    second = host.until_started("worker-1", 2)
    assert second["at"] - killed_s < SOON_S
    states = [worker for state in host.received("state") for worker in state["workers"]]
    assert all(worker["backoff_s"] == 0 for worker in states)
    assert second["consumer"] != first["consumer"]
    (order,) = host.received("return")
    assert order["consumer"] == first["consumer"]
    assert order["blame"]["kind"] == "items"
    assert blamed(order) == [RUNNING, FINISHING]
    assert len(host.starts("worker-2")) == 1
    host.until(lambda: second["consumer"] in host.received("children")[-1]["consumers"])
    assert first["consumer"] not in host.received("children")[-1]["consumers"]


def test_the_restart_backoff_grows_while_a_worker_keeps_dying(host: Host) -> None:
    host.start(Scenario(worker="dies", later="dies"), workers=2)
    host.until_started("worker-1", 4)
    started_s = [event["at"] for event in host.starts("worker-1")]
    waits = [after - before for before, after in pairwise(started_s)]
    assert waits[1] > 0.9
    assert waits[2] > 1.9

    def states() -> list[Any]:
        return [worker for state in host.received("state") for worker in state["workers"]]

    # The child has started before the coordinator is told of it.
    host.until(lambda: any(worker["restarts"] >= 3 for worker in states()))
    assert any(worker["backoff_s"] > 0 and worker["state"] == "waiting" for worker in states())
    assert not any(worker["backoff_s"] > 0 and worker["restarts"] == 0 for worker in states())
    began_s = time.monotonic()
    host.signal(signal.SIGTERM)
    assert host.wait() == 0
    assert seconds_since(began_s) < SOON_S


def test_a_stalled_worker_is_killed_and_its_items_become_suspects(host: Host) -> None:
    settings = {"stall_timeout_s": 1.5}
    host.start(Scenario(worker="stalls", settings=settings)).until_ready()
    second = host.until_started("worker-1", 2)
    lived_s = second["at"] - host.starts("worker-1")[0]["at"]
    assert 1.4 < lived_s < 1.5 + SOON_S
    (order,) = host.received("return")
    assert blamed(order) == [RUNNING, FINISHING]
    assert len(host.log("child_stalled")) == 1


def test_a_stopped_worker_has_stalled(host: Host) -> None:
    host.start(Scenario(settings={"stall_timeout_s": 1.5})).until_ready()
    os.kill(host.starts("worker-1")[0]["pid"], signal.SIGSTOP)
    host.until_started("worker-1", 2)


def test_a_host_that_was_suspended_kills_no_worker(host: Host) -> None:
    settings = {"stall_timeout_s": 2}
    host.start(Scenario(settings=settings), workers=2).until_ready(3)
    host.signal_group(signal.SIGSTOP)
    paused_s = time.monotonic()
    eventually(lambda: seconds_since(paused_s) > 4)
    host.signal_group(signal.SIGCONT)
    states = len(host.received("state"))
    host.until(lambda: len(host.received("state")) > states + 1)
    assert host.log("child_stalled") == []
    assert len(host.events(event="started")) == 3


@pytest.mark.parametrize("does", ["slow link", "slow chain"])
def test_a_hard_limit_counts_the_slow_item_alone(host: Host, does: str) -> None:
    host.start(Scenario(worker=does))
    host.until_started("worker-1", 2)
    (order,) = host.received("return")
    assert blamed(order) == [SLOW]
    (line,) = host.log("hard_time_limit_passed")
    assert (line["vcon"], line["link"]) == ("uuid-slow", "links.endless")


def test_a_worker_whose_registration_is_void_is_replaced_under_a_new_id(host: Host) -> None:
    host.start(Scenario(worker="void"))
    second = host.until_started("worker-1", 2)
    assert second["consumer"] != host.starts("worker-1")[0]["consumer"]
    assert host.received("return")[0]["blame"]["kind"] == "nobody"


def test_a_killed_coordinator_is_replaced_and_gets_its_orders_again(host: Host) -> None:
    host.start(Scenario(worker="holds items", coordinator="dies with the first return"))
    host.until_ready()
    worker = host.starts("worker-1")[0]
    kill(worker["pid"])
    host.until_started("coordinator", 2)
    host.until_started("worker-1", 2)
    first, again = host.received("return")
    assert first == again
    assert again["consumer"] == worker["consumer"]
    host.until(lambda: host.received("children")[-1]["consumers"] != [])
    host.signal(signal.SIGTERM)
    assert host.wait() == 0


def test_coordinator_and_worker_killed_together_are_replaced(host: Host) -> None:
    host.start(Scenario(worker="holds items"), workers=2).until_ready(3)
    worker = host.starts("worker-2")[0]
    killed_s = kill(worker["pid"])
    kill(host.starts("coordinator")[0]["pid"])
    assert host.until_started("worker-2", 2)["at"] - killed_s < SOON_S
    assert blamed(host.received("return")[-1]) == [RUNNING, FINISHING]
    assert len(host.starts("worker-1")) == 1


@pytest.mark.parametrize("host", ["forkserver"], indirect=True)
def test_a_killed_forkserver_costs_no_child_and_stops_no_replacement(host: Host) -> None:
    host.start(Scenario(), workers=2).until_ready(3)
    (forkserver,) = [pid for pid in host.pids() if "forkserver" in title(pid)]
    kill(forkserver)
    states = len(host.received("state"))
    host.until(lambda: len(host.received("state")) > states)
    assert len(host.events(event="started")) == 3
    worker = host.starts("worker-1")[0]["pid"]
    killed_s = kill(worker)
    assert host.until_started("worker-1", 2)["at"] - killed_s < SOON_S
    host.signal(signal.SIGTERM)
    assert host.wait() == 0
    host.until(lambda: not host.pids())


@by_every_method
def test_a_killed_supervisor_leaves_no_orphan(host: Host) -> None:
    host.start(Scenario(), workers=2).until_ready(3)
    killed_s = kill(host.pid)
    host.wait()
    host.until(lambda: not host.pids())
    assert seconds_since(killed_s) < SOON_S
    assert len(host.events(event="orphaned")) == 3


@by_every_method
def test_an_internal_error_of_the_supervisor_leaves_no_orphan(host: Host) -> None:
    host.start(Scenario(worker="breaks the protocol"), workers=2)
    assert host.wait() == 1
    assert len(host.log("process_died")) == 1
    host.until(lambda: not host.pids())


# Shutdown.


def test_workers_that_do_not_drain_by_the_deadline_are_killed_without_blame(host: Host) -> None:
    settings = {"shutdown_timeout_s": 1}
    host.start(Scenario(worker="does not drain", settings=settings), workers=2).until_ready(3)
    began_s = time.monotonic()
    host.signal(signal.SIGTERM)
    assert host.wait() == 0
    assert 1 <= seconds_since(began_s) < 1 + SOON_S
    assert [
        (order["blame"]["kind"], order["blame"]["items"]) for order in host.received("return")
    ] == [
        ("nobody", []),
        ("nobody", []),
    ]
    assert len(host.log("drain_deadline_passed")) == 1


def test_a_second_signal_kills_at_once(host: Host) -> None:
    host.start(Scenario(worker="does not drain")).until_ready()
    host.signal(signal.SIGTERM)
    host.signal(signal.SIGINT)  # at once, as an init may send it: it repeats the first one
    first_s = time.monotonic()
    eventually(lambda: seconds_since(first_s) > 0.6)  # After half a second it is a second one.
    host.until(lambda: host.log("draining"))
    assert host.log("stopping_now") == []
    began_s = time.monotonic()
    host.signal(signal.SIGINT)
    assert host.wait() == 0
    assert seconds_since(began_s) < SOON_S
    assert host.received("return")[0]["blame"]["kind"] == "nobody"


def test_a_worker_that_dies_while_draining_has_crashed_and_is_not_replaced(host: Host) -> None:
    settings = {"shutdown_timeout_s": 120}
    host.start(Scenario(worker="does not drain", settings=settings)).until_ready()
    host.signal(signal.SIGTERM)
    host.until(lambda: host.log("draining"))
    kill(host.starts("worker-1")[0]["pid"])
    assert host.wait() == 0
    assert blamed(host.received("return")[0]) == [RUNNING, FINISHING]
    assert len(host.starts("worker-1")) == 1


def test_a_coordinator_that_dies_during_a_shutdown_is_replaced_if_it_has_orders(host: Host) -> None:
    scenario = Scenario(worker="holds items", coordinator="dies with the first return")
    host.start(scenario).until_ready()
    host.signal(signal.SIGTERM)
    assert host.wait() == 0
    assert len(host.starts("coordinator")) == 2
    assert len(host.received("return")) == 2


def test_a_coordinator_that_ends_as_ordered_is_not_replaced_if_it_has_orders(host: Host) -> None:
    host.start(Scenario(coordinator="keeps the last orders"), workers=2).until_ready(3)
    began_s = time.monotonic()
    host.signal(signal.SIGTERM)
    assert host.wait() == 0
    assert seconds_since(began_s) < SOON_S
    assert len(host.starts("coordinator")) == 1
    (left,) = host.log("orders_left_to_other_hosts")
    assert left["orders"] == 2


def test_a_coordinator_is_patient_if_a_killed_worker_may_hold_items(host: Host) -> None:
    settings = {"shutdown_timeout_s": 0.1}
    does = {"worker": "does not drain", "coordinator": "keeps the last orders"}
    host.start(Scenario(**does, settings=settings)).until_ready()
    host.signal(signal.SIGTERM)
    assert host.wait() == 0
    assert [drain["patient"] for drain in host.received("drain")] == [True]


# Boot failures.


@pytest.mark.parametrize(
    ("scenario", "code", "reason"),
    [
        (Scenario(worker="misconfigured"), 78, "links.nonsense: there is no such module"),
        (Scenario(coordinator="misconfigured"), 69, "Redis does not answer at redis://nowhere"),
        (
            Scenario(worker="dies before it is ready"),
            70,
            "it ended with exit code 5 before it was ready",
        ),
    ],
)
def test_a_first_child_that_cannot_start_stops_everything(
    host: Host, scenario: Scenario, code: int, reason: str
) -> None:
    host.start(scenario)
    assert host.wait() == code
    (line,) = host.log("boot_failed")
    assert line["reason"] == reason
    assert len(host.starts("worker-1")) <= 1
    host.until(lambda: not host.pids())


def test_a_child_that_stalls_before_it_is_ready_is_a_boot_failure(host: Host) -> None:
    settings = {"stall_timeout_s": 1, "boot_timeout_s": 1.5}
    host.start(Scenario(worker="never ready", settings=settings))
    host.until(lambda: host.starts("worker-1"))
    os.kill(host.starts("worker-1")[0]["pid"], signal.SIGSTOP)
    assert host.wait() == 70


def test_a_stop_does_not_wait_for_a_coordinator_that_waits_for_redis(host: Host) -> None:
    host.start(Scenario(coordinator="never ready"))
    host.until(lambda: host.starts("coordinator"))
    began_s = time.monotonic()
    host.signal(signal.SIGTERM)
    assert host.wait() == 0
    assert seconds_since(began_s) < SOON_S


def test_a_later_child_that_cannot_start_has_crashed(host: Host) -> None:
    host.start(Scenario(later="misconfigured"), workers=2).until_ready(3)
    kill(host.starts("worker-1")[0]["pid"])
    host.until_started("worker-1", 3)
    assert host.log("boot_failed") == []
    reasons = [line["reason"] for line in host.log("child_died")]
    assert "links.nonsense: there is no such module" in reasons
    assert alive(host.starts("worker-2")[0]["pid"])


# Planned replacements.


@by_every_method
def test_a_reload_replaces_all_one_by_one_and_the_coordinator_last(host: Host) -> None:
    host.start(Scenario(mark="old"), workers=2).until_ready(3)
    host.rewrite(Scenario(mark="new"))
    host.signal(signal.SIGHUP)
    host.until_started("coordinator", 2)
    marks = [(event["who"], event["mark"]) for event in host.events(event="started")]
    assert marks[3:] == [("worker-1", "new"), ("worker-2", "new"), ("coordinator", "new")]
    drained = [event["at"] for event in host.events("worker", "drained")]
    assert drained[1] > host.starts("worker-1")[1]["at"]
    assert host.received("drain") == [{"type": "drain", "successor": True}]
    assert {order["blame"]["kind"] for order in host.received("return")} == {"nobody"}
    host.signal(signal.SIGTERM)
    assert host.wait() == 0


def test_a_bad_reload_is_refused_and_changes_nothing(host: Host) -> None:
    host.start(Scenario(), workers=2).until_ready(3)
    (host.folder / "scenario.json").write_text("{ this is no scenario")
    host.signal(signal.SIGHUP)
    host.until(lambda: host.log("reload_refused"))
    assert "scenario.json" in host.log("reload_refused")[0]["reason"]
    # A replacement still gets the good configuration.
    kill(host.starts("worker-1")[0]["pid"])
    host.until_started("worker-1", 2)
    assert len(host.events(event="started")) == 4


def test_a_reload_stops_at_the_first_worker_that_cannot_start_with_it(host: Host) -> None:
    host.start(Scenario(mark="old"), workers=2).until_ready(3)
    host.rewrite(Scenario(later="misconfigured", mark="bad"))
    host.signal(signal.SIGHUP)
    host.until_started("worker-1", 3)
    assert [event["mark"] for event in host.starts("worker-2")] == ["old"]
    host.rewrite(Scenario(mark="good"))
    host.signal(signal.SIGHUP)
    host.until_started("coordinator", 2)
    assert host.starts("worker-1")[-1]["mark"] == "good"
    assert [event["mark"] for event in host.starts("worker-2")] == ["old", "good"]


@pytest.mark.parametrize(
    ("does", "settings"),
    [("works", {"max_items_per_worker": 100}), ("grows", {"max_worker_memory": 1 << 30})],
)
def test_workers_are_recycled_one_by_one(host: Host, does: str, settings: dict[str, int]) -> None:
    host.start(Scenario(worker=does, settings=settings), workers=2).until_ready(3)
    host.until(lambda: len(host.starts("worker-1")) == len(host.starts("worker-2")) == 2)
    drained = [event["at"] for event in host.events("worker", "drained")]
    replaced_s = [host.starts(who)[1]["at"] for who in ("worker-1", "worker-2")]
    assert drained[1] > min(replaced_s)
    assert {order["blame"]["kind"] for order in host.received("return")} == {"nobody"}
    assert len(host.log("worker_recycled")) == 2


def test_no_worker_is_recycled_before_the_replacement_of_the_last_one_is_ready(host: Host) -> None:
    settings = {"max_items_per_worker": 100}
    scenario = Scenario(worker="works", later="never ready", settings=settings)
    host.start(scenario, workers=2)
    host.until(lambda: len(host.events("worker", "started")) == 3)
    states = len(host.received("state"))
    # The state is sent on a change, then every 2 s; the watchdog looks before each time.
    host.until(lambda: len(host.received("state")) > states + 2)
    assert len(host.log("worker_recycled")) == len(host.events("worker", "drained")) == 1


def test_a_worker_that_retires_is_replaced_without_blame(host: Host) -> None:
    host.start(Scenario(worker="retires"))
    host.until_started("worker-1", 2)
    assert host.received("return")[0]["blame"]["kind"] == "nobody"
    assert host.log("child_died") == []
