"""Hard time limits: whatever a link is stuck in, only its own item is counted.

Every test has one worker that runs two items at a time: one that never ends, and neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.daemon import Daemon, elements, push, reasons, vcon
from tests.process.items import arrived, runs

Start = Callable[..., Daemon]

LONG_S = 60
LIMIT_S = 2
"""So long that a busy machine does not let a quick neighbour pass it."""

STUCK = {
    "an endless loop": "loop",
    "a deadlock": "deadlock",
    "a client without timeout": "ask",
    "C code that lets the lock go": "native:3000",
    "C code that holds the lock": "lock:3000",
}
CASES = [(what, "fork") for what in STUCK]
# Under these methods a worker maps its shared status differently; the hardest case is enough.
CASES += [("C code that holds the lock", method) for method in ("spawn", "forkserver")]


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a host whose link does what each vCon's subject says."""
    with ExitStack() as stack:

        def launch(
            link: dict[str, Any],
            chain: dict[str, Any],
            method: str = "fork",
            **environment: str,
        ) -> Daemon:
            trouble = {"module": "tests.modules.trouble", "options": {"redis_url": redis_url}}
            cellar = {"module": "tests.modules.cellar", "options": {"redis_url": redis_url}}
            main = {"links": ["tag", "trouble"], "ingress_lists": ["in"], "egress_lists": ["out"]}
            config = {
                "links": {
                    "tag": {"module": "links.tag", "options": {"tags": ["seen"]}},
                    "again": trouble,
                    "trouble": trouble | link,
                },
                "storages": {"cellar": cellar},
                "chains": {"main": main | {"max_deliveries": 2} | chain},
            }
            environment = {"CONSERVER_VCON_CONCURRENCY": "2"} | environment
            daemon = Daemon(tmp_path / "host", redis_url, config, method, 1, **environment)
            return stack.enter_context(daemon)

        yield launch


@pytest.mark.slow
@pytest.mark.parametrize(("what", "method"), CASES)
def test_whatever_a_link_is_stuck_in_only_its_item_is_counted(
    what: str, method: str, start: Start, client: redis.Redis
) -> None:
    deed = STUCK[what]
    daemon = start({"hard_timeout_s": LIMIT_S}, {}, method)
    (stuck,) = push(client, "in", [vcon(subject=deed)])
    others = push(client, "in", [vcon(subject="sleep:0.1") for _ in range(10)])
    daemon.until(lambda: elements(client, "DLQ:in") == [stuck], LONG_S)
    daemon.until(arrived(client, others), LONG_S)
    # The coordinator tells it after it has done it.
    daemon.until(lambda: sum(one["counted"] for one in daemon.events("items_returned")) == 2)
    assert {line["vcon"] for line in daemon.events("hard_time_limit_passed")} == {stuck}
    in_company = 0
    if deed.startswith("lock"):
        # It freezes its neighbours, too, and nothing shows which link does: none is counted.
        in_company = len(daemon.events("child_stalled"))
    else:
        assert not [line for line in daemon.events("suspect_begun") if line["vcon"] != stuck]
    assert runs(client, stuck) == 2 + in_company <= 3
    assert all(runs(client, uuid) <= 3 for uuid in others)
    (why,) = reasons(client, "in")
    assert (why["reason"], why["link"], why["deliveries"]) == ("time_limit", "trouble", 2)
    assert why["error"] == (
        "its worker died 2 times with nothing else to blame; the last time it was killed because"
        f" the link trouble ran longer than its hard_timeout_s of {LIMIT_S} s"
    )
    assert daemon.stop() == 0


@pytest.mark.slow
def test_the_limit_of_a_chain_counts_all_its_links(start: Start, client: redis.Redis) -> None:
    # Twice the sleep is over the limit by more than two looks of the watchdog (0.5 s each), and one
    # sleep, which is left for the second run, is below it by as much.
    daemon = start({}, {"hard_timeout_s": 6.6, "links": ["again", "tag", "trouble"]})
    (slow,) = push(client, "in", [vcon(subject="sleep:4.2")])  # in each of two links
    (quick,) = push(client, "in", [vcon(subject="sleep:0.5")])
    daemon.until(arrived(client, [slow, quick]), LONG_S)
    (passed,) = daemon.events("hard_time_limit_passed")
    assert (passed["vcon"], passed["link"]) == (slow, "trouble")
    assert passed["reason"].startswith(
        "the links of the chain main ran longer than its hard_timeout_s of 6.6 s"
    )
    # The first link took over a second: its checkpoint spared the second run from doing it again.
    assert runs(client, slow) == 3


def test_no_backoff_follows_a_hard_time_limit(start: Start, client: redis.Redis) -> None:
    # With the restart backoff it would be one item in half a minute.
    daemon = start({"hard_timeout_s": 0.5}, {"max_deliveries": 1})
    push(client, "in", [vcon(subject="sleep:3000") for _ in range(8)])
    began_s = time.monotonic()
    daemon.until(lambda: client.llen("DLQ:in") == 8, LONG_S)
    assert time.monotonic() - began_s < 80
    assert len(daemon.events("hard_time_limit_passed")) == 8


def test_a_link_that_obeys_its_soft_limit_fails_like_any_attempt(
    start: Start, client: redis.Redis
) -> None:
    limits = {"retries": 0, "backoff_s": 0.05, "hard_timeout_s": 30, "soft_timeout_s": 0.5}
    daemon = start({}, limits)
    (slow,) = push(client, "in", [vcon(subject="soft")])
    daemon.until(lambda: elements(client, "DLQ:in") == [slow])
    (why,) = reasons(client, "in")
    assert (why["reason"], why["link"], why["type"]) == ("failed", "trouble", "TimeoutError")
    assert not daemon.events("child_ended")
    assert runs(client, slow) == 1


@pytest.mark.slow
def test_storing_has_no_limit(start: Start, client: redis.Redis) -> None:
    limits = {"hard_timeout_s": 2}
    daemon = start(limits, {"storages": ["cellar"]} | limits)
    (uuid,) = push(client, "in", [vcon(storing="sleep:4")])
    daemon.until(arrived(client, [uuid]), LONG_S)
    assert runs(client, uuid) == 1
    assert not daemon.events("hard_time_limit_passed")
