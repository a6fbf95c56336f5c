"""Poison: an item that kills its worker or its host is dead-lettered, with how the worker died.

Items beside it finish normally, and the death is not counted against them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from conserver.queue import calls, host_calls, script
from tests.daemon import Daemon, elements, push, reasons, vcon
from tests.process.items import arrived, runs

Start = Callable[..., Daemon]

LONG_S = 60
WAITED = "while it waited for a storage or for Redis"
DIED = "its worker died 2 times with nothing else to blame; the last time it "
KILLERS = {
    "segfault": "was killed by signal 11 (Segmentation fault) in the link trouble",
    "kill": "was killed by signal 9 (Killed) in the link trouble",  # as the kernel does it
    "exit": "ended with exit code 3 in the link trouble",
    "exit:0": "ended with exit code 0 in the link trouble",  # which looks like a clean exit
}
STORING_KILLERS = {
    "segfault": f"was killed by signal 11 (Segmentation fault) {WAITED}",
    "exit": f"ended with exit code 5 {WAITED}",
    "exit:0": f"ended with exit code 0 {WAITED}",
}


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts hosts whose link and storage do what each vCon says, and ends them after the test."""
    with ExitStack() as stack:

        def launch(
            workers: int = 2, *, stored: bool = False, waits: bool = True, **environment: str
        ) -> Daemon:
            options = {"options": {"redis_url": redis_url}}
            chain = {
                "links": ["trouble"],
                "storages": ["cellar"] if stored else [],
                "ingress_lists": ["in"],
                "egress_lists": ["out"],
                "max_deliveries": 2,
            }
            config = {
                "links": {"trouble": {"module": "tests.modules.trouble", **options}},
                "storages": {"cellar": {"module": "tests.modules.cellar", **options}},
                "chains": {"main": chain},
            }
            folder = tmp_path / f"host-{len(list(tmp_path.iterdir()))}"
            daemon = Daemon(folder, redis_url, config, "fork", workers, **environment)
            stack.callback(daemon.destroy)
            return daemon.start() if waits else daemon.launch()

        yield launch


def counted(*daemons: Daemon) -> int:
    """How many deaths these hosts have counted, of any items."""
    return sum(line["counted"] for daemon in daemons for line in daemon.events("items_returned"))


def push_amid(
    client: redis.Redis, document: dict[str, Any], **members: Any
) -> tuple[str, list[str]]:
    """Push a document amid forty others, all in one command: a busy machine would have done those
    before it before it came. Answers its uuid and theirs.
    """
    others = [vcon(**members) for _ in range(40)]
    for one in (document, *others):
        client.set(f"vcon:{one['uuid']}", orjson.dumps(one))
    uuids = [one["uuid"] for one in others]
    client.rpush("in", *uuids[:20], document["uuid"], *uuids[20:])
    return document["uuid"], uuids


@pytest.mark.parametrize("deed", KILLERS)
def test_a_link_that_kills_its_worker(deed: str, start: Start, client: redis.Redis) -> None:
    daemon = start(CONSERVER_VCON_CONCURRENCY="4")
    poison, others = push_amid(client, vcon(subject=deed), subject="sleep:0.05")
    daemon.until(lambda: elements(client, "DLQ:in") == [poison], LONG_S)
    daemon.until(arrived(client, others), LONG_S)
    (why,) = reasons(client, "in")
    assert (why["reason"], why["link"], why["deliveries"]) == ("poison", "trouble", 2)
    assert why["error"] == DIED + KILLERS[deed]
    assert runs(client, poison) == 3, "once with others, twice alone"
    assert daemon.stop() == 0
    assert counted(daemon) == 2, "no other item was counted"


@pytest.mark.parametrize("deed", STORING_KILLERS)
def test_a_storage_whose_client_crashes(deed: str, start: Start, client: redis.Redis) -> None:
    daemon = start(stored=True)
    poison, others = push_amid(client, vcon(subject="add", storing=deed))
    daemon.until(lambda: elements(client, "DLQ:in") == [poison], LONG_S)
    daemon.until(arrived(client, others), LONG_S)
    (why,) = reasons(client, "in")
    assert (why["reason"], why["deliveries"]) == ("poison", 2)
    assert why["error"] == DIED + STORING_KILLERS[deed]
    batches = [batch.split() for batch in elements(client, "batches")]
    assert [len(batch) for batch in batches if poison in batch][1:] == [1, 1], "alone, twice"
    stored: Any = client.hkeys("cellar")
    assert {uuid.decode() for uuid in stored} == set(others)
    assert runs(client, poison) == 1, "its links were done and written"
    assert daemon.stop() == 0
    assert counted(daemon) == 2, "no other item was counted"


@pytest.mark.parametrize(
    ("steps", "how"),
    [
        ("open:kill", "was killed by signal 9 (Killed) while its document was read"),
        # It was marked as begun in Redis; the shared status does not show it at work yet.
        ("open:kill,after-begin:kill", "was killed by signal 9 (Killed)"),
    ],
    ids=["parsing", "beginning"],
)
def test_what_kills_before_any_link_runs(
    steps: str, how: str, start: Start, client: redis.Redis
) -> None:
    """As a document does that needs more memory for its parsing than there is."""
    daemon = start(1, CONSERVER_FAILPOINTS=steps)
    (poison,) = push(client, "in", [vcon()])
    daemon.until(lambda: elements(client, "DLQ:in") == [poison], LONG_S)
    (why,) = reasons(client, "in")
    assert (why["reason"], why["deliveries"], why["error"]) == ("poison", 2, DIED + how)
    assert runs(client, poison) == 0
    assert daemon.stop() == 0
    assert counted(daemon) == 2


def test_items_that_kill_only_together_finish_alone(start: Start, client: redis.Redis) -> None:
    daemon = start(1, CONSERVER_VCON_CONCURRENCY="4")
    uuids = push(client, "in", [vcon(subject="company:0.2") for _ in range(8)])
    daemon.until(arrived(client, uuids), LONG_S)
    assert daemon.stop() == 0
    assert daemon.events("child_died")
    assert counted(daemon) == 0
    assert not client.exists("DLQ:in")


@pytest.mark.slow
def test_many_poisons_do_not_stop_the_service(start: Start, client: redis.Redis) -> None:
    # With the full restart backoff their thirty deaths would take ten minutes.
    daemon = start(2)
    poisons = push(client, "in", [vcon(subject="exit") for _ in range(10)])
    uuids = push(client, "in", [vcon() for _ in range(200)])
    daemon.until(lambda: sorted(elements(client, "DLQ:in")) == sorted(poisons), LONG_S)
    daemon.until(arrived(client, uuids), LONG_S)
    assert daemon.stop() == 0
    assert counted(daemon) == 2 * len(poisons)


def _over(host: Daemon, client: redis.Redis) -> bool:
    """Whether the host is dead, or the poison is dead-lettered."""
    return not host.everybody() or bool(client.exists("DLQ:in"))


@pytest.mark.slow
def test_what_kills_the_whole_host(start: Start, client: redis.Redis) -> None:
    """As the kernel does when a container runs out of memory: no shared status survives."""
    uuids = push(client, "in", [vcon(subject="sleep:0.02") for _ in range(10)])
    (poison,) = push(client, "in", [vcon(subject="host")])
    uuids += push(client, "in", [vcon(subject="sleep:0.02") for _ in range(10)])
    hosts: list[Daemon] = []
    while not client.exists("DLQ:in"):
        assert len(hosts) < 6
        # It may die before its last child is ready.
        host = start(waits=False, CONSERVER_LEASE_S="1", CONSERVER_VCON_CONCURRENCY="4")
        hosts.append(host)
        host.until(partial(_over, host, client), LONG_S)
    hosts[-1].until(arrived(client, uuids), LONG_S)
    assert elements(client, "DLQ:in") == [poison]
    (why,) = reasons(client, "in")
    assert (why["reason"], why["deliveries"]) == ("poison", 2)
    assert why["error"] == DIED + "died with its host"
    assert runs(client, poison) == 3
    assert hosts[-1].stop() == 0
    assert not client.keys("conserver:host:*")


@pytest.mark.slow
def test_a_thousand_suspects_of_a_dead_host_are_soon_done(
    start: Start, client: redis.Redis
) -> None:
    uuids = push(client, "in", [vcon() for _ in range(1000)])
    _hold(client, "deadhost", 4)
    daemon = start(CONSERVER_LEASE_S="1")
    assert daemon.event("host_reaped")["suspects"] == len(uuids)
    reaped_s = time.monotonic()
    daemon.until(arrived(client, uuids), LONG_S)
    # They take less than 2 s on an idle machine; one for each look at the suspects took 1,000 s.
    assert time.monotonic() - reaped_s < 200
    assert len(daemon.events("suspect_begun")) == len(uuids)
    assert counted(daemon) == 0


def _hold(client: redis.Redis, host: str, consumers: int) -> None:
    """Let the workers of a host claim everything, and disappear."""
    limits = calls.ClaimLimits(most=256)
    for number in range(consumers):
        consumer = f"{host}{number}"
        script.run(client, host_calls.register(host, consumer, ["in"]))
        demand: list[Any] = [calls.Demand("in", 256)]
        script.run(client, calls.claim(host, consumer, 1, True, demand, limits))
    assert not client.exists("in")
