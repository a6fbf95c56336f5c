"""One child process by every start method, watched by its pidfd."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from conserver.process.boot import Boot
from conserver.process.descriptors import Inherited, open_descriptors
from conserver.process.messages import Message, receive
from conserver.supervisor.child import Child, context_for
from conserver.supervisor.slots import SharedResources
from tests.helpers import eventually
from tests.process.children import Scenario, complete_lines, load
from tests.process.host import alive, title

METHODS = ("fork", "spawn", "forkserver")

# Python warns that a fork copies one thread only. pytest may have others; the supervisor has none.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Nursery:
    """Makes children by one start method, and leaves none behind."""

    def __init__(self, method: str, folder: Path) -> None:
        self.preexisting = open_descriptors()
        self.resources = SharedResources(2)
        self.method, self._context = context_for(method)
        self._folder = folder
        self._children: list[Child] = []

    def make(self, does: str, entry: str = "tests.process.children:worker", slot: int = 0) -> Child:
        Scenario(worker=does, later=does).write(self._folder)
        settings, config = load(self._folder)
        boot = self.resources.boot(self.resources.workers[slot], config, settings)
        inherited = (
            Inherited(self.preexisting, self.resources.statuses) if self.method == "fork" else None
        )
        child = Child(self._context, entry, boot, inherited)
        self._children.append(child)
        return child

    def start(self, does: str, entry: str = "tests.process.children:worker") -> Child:
        child = self.make(does, entry)
        child.start()
        return child

    def receive(self, slot: int = 0) -> list[Message]:
        """Wait for the next messages of a child."""
        return eventually(lambda: receive(self.resources.workers[slot].supervisor_end))

    def close(self) -> None:
        self.resources.cut_lifeline()
        for child in self._children:
            child.kill()
            assert child.wait(60)
            child.exit_code()
            child.close()
        self.resources.close()


@pytest.fixture(params=METHODS)
def nursery(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(request.param, tmp_path)
    yield nursery
    nursery.close()


def test_a_child_starts_drains_on_a_signal_and_ends(nursery: Nursery) -> None:
    child = nursery.make("idle")
    assert child.pid == 0
    child.start()
    assert nursery.receive() == [{"type": "ready"}]
    assert title(child.pid) == "conserver: worker 1 of 2"
    status = nursery.resources.workers[0].status
    eventually(lambda: status.read().heartbeats > 2)
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait(60)
    assert child.exit_code() == 0


def tell_early(boot: Boot) -> None:
    """The entry of a child: says which variable it was started with."""
    boot.send("ready", early=os.environ.get("CONSERVER_EARLY", ""))


def test_a_spawned_child_is_started_with_the_variables_of_its_boot(tmp_path: Path) -> None:
    nursery = Nursery("spawn", tmp_path)
    try:
        child = nursery.make("idle", f"{__name__}:tell_early")
        child.boot.environment = {"CONSERVER_EARLY": "yes"}
        child.start()
        assert nursery.receive() == [{"type": "ready", "early": "yes"}]
        assert "CONSERVER_EARLY" not in os.environ
    finally:
        nursery.close()


def test_a_signal_that_comes_before_the_child_can_take_it_is_not_lost(nursery: Nursery) -> None:
    child = nursery.start("idle")
    os.kill(child.pid, signal.SIGTERM)  # Under spawn it is still importing Python's own modules.
    assert child.wait(60)
    assert child.exit_code() == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_child_ignores_a_hangup_and_drains_on_an_interrupt(
    nursery: Nursery, number: signal.Signals
) -> None:
    child = nursery.start("idle")
    nursery.receive()
    os.kill(child.pid, number)
    status = nursery.resources.workers[0].status
    beaten = status.read().heartbeats
    if number == signal.SIGHUP:
        eventually(lambda: status.read().heartbeats > beaten + 3)
        assert not child.wait(0)
    else:
        assert child.wait(60)
        assert child.exit_code() == 0


def test_a_killed_child_is_detected_and_has_its_exit_code(nursery: Nursery) -> None:
    child = nursery.start("idle")
    nursery.receive()
    child.kill()
    assert child.wait(60)
    assert child.exit_code() == -signal.SIGKILL
    child.kill()  # harmless


@pytest.mark.parametrize(
    ("does", "message", "code"),
    [
        ("misconfigured", "links.nonsense: there is no such module", 78),
        ("broken", "RuntimeError: a bug at the start", 70),
    ],
)
def test_a_child_reports_why_it_cannot_start(
    nursery: Nursery, does: str, message: str, code: int
) -> None:
    child = nursery.start(does)
    messages = nursery.receive()
    assert messages == [{"type": "failed", "message": message, "exit_code": code}]
    assert child.wait(60)
    assert child.exit_code() == code


def test_a_missing_entry_is_reported_like_any_failure(nursery: Nursery) -> None:
    child = nursery.start("idle", entry="conserver.nobody:main")
    (message,) = nursery.receive()
    assert message["message"].startswith("ModuleNotFoundError")
    assert child.wait(60)
    assert child.exit_code() == 70


def test_a_child_holds_no_descriptors_but_its_own(nursery: Nursery, tmp_path: Path) -> None:
    nursery.start("idle")
    nursery.receive()
    (started,) = complete_lines(tmp_path / "journal.jsonl")
    open_there = " ".join(started["descriptors"])
    assert "conserver-status-1" in open_there
    for foreign in ("conserver-status-0", "conserver-status-2", "eventpoll", "pidfd"):
        assert foreign not in open_there


def test_the_end_of_the_lifeline_reaches_every_child(nursery: Nursery) -> None:
    first = nursery.start("idle")
    second = nursery.make("idle", slot=1)
    second.start()
    nursery.receive(0)
    nursery.receive(1)
    nursery.resources.cut_lifeline()
    assert first.wait(60)
    assert second.wait(60)


def test_children_survive_their_forkserver(tmp_path: Path) -> None:
    nursery = Nursery("forkserver", tmp_path)
    child = nursery.start("idle")
    nursery.receive()
    os.kill(_parent(child.pid), signal.SIGKILL)
    status = nursery.resources.workers[0].status
    beaten = status.read().heartbeats
    eventually(lambda: status.read().heartbeats > beaten + 3)
    assert not child.wait(0)
    another = nursery.make("idle", slot=1)
    another.start()
    nursery.receive(1)
    assert alive(another.pid)
    child.kill()
    assert child.wait(60)
    assert child.exit_code() == 255
    nursery.close()


def test_the_platform_has_a_default() -> None:
    method, context = context_for("")
    assert method in METHODS
    assert context.get_start_method() == method


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
