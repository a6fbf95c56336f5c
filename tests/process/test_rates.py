"""Rates hold over all workers of two hosts, nobody spins, and other chains go on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import redis

from tests.daemon import Daemon, push, vcon
from tests.helpers import eventually

ITEMS = 25
PER_S = 5
COUNT = 600


def config(runs: Path, **rates: Any) -> dict[str, Any]:
    """A chain whose second link has a rate, and one without."""
    clock = {
        "module": "tests.modules.timeclock",
        "options": {"file": str(runs), **rates.pop("options", {})},
    }
    return {
        "links": {
            "rated": {**clock, **rates},
            "plain": {"module": "links.tag", "options": {"tags": ["seen"]}},
        },
        "chains": {
            "slow": {
                "links": ["plain", "rated"],
                "ingress_lists": ["slow"],
                "egress_lists": ["slow_out"],
            },
            "fast": {"links": ["plain"], "ingress_lists": ["fast"], "egress_lists": ["fast_out"]},
        },
    }


def times(runs: Path) -> list[float]:
    """When the link ran."""
    return sorted(float(line.split()[0]) for line in runs.read_text().splitlines())


def ends(*hosts: Daemon) -> list[str]:
    """The vCons that are done, in the order in which they were."""
    lines = [line for host in hosts for line in host.events("done")]
    return [line["vcon"] for line in sorted(lines, key=lambda line: line["timestamp"])]


def test_a_rate_holds_over_two_hosts_and_harms_no_other_chain(
    redis_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    text = config(runs, rate=f"{PER_S}/s", rate_burst=1)
    client.config_resetstat()
    with (
        Daemon(tmp_path / "a", redis_url, text, workers=2) as first,
        Daemon(tmp_path / "b", redis_url, text) as second,
    ):
        began_s = time.time()
        push(client, "slow", [vcon() for _ in range(ITEMS)])
        fast = push(client, "fast", [vcon() for _ in range(ITEMS)])
        assert eventually(lambda: client.llen("fast_out") == ITEMS)
        assert eventually(lambda: client.llen("slow_out") == ITEMS)
        # An item is parked once for its slot and asks no more.
        calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert not first.events("attempt_failed") + second.events("attempt_failed")
        first.until(lambda: len(ends(first, second)) == 2 * ITEMS)
        assert set(ends(first, second)[-3:]).isdisjoint(fast), (
            "the other chain did not wait for this one"
        )
    found = times(runs)
    assert len(found) == ITEMS
    # Not from the first run: a busy machine begins that one late, and the rest in time.
    assert found[-1] - began_s >= (ITEMS - 1) / PER_S - 0.1, "no faster than the rate"
    assert calls < 60 * ITEMS
    assert client.zcard("conserver:parked:slow") == 0


def test_a_server_that_wants_a_pause_gets_it_from_everybody(
    redis_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    pause_s = 2.0
    text = config(runs, rate="50/s", options={"retry_after_s": pause_s})
    with Daemon(tmp_path, redis_url, text, workers=2):
        push(client, "slow", [vcon(subject="busy")])
        assert eventually(lambda: client.zcard("conserver:parked:slow") == 1)
        push(client, "slow", [vcon() for _ in range(5)])
        assert eventually(lambda: client.llen("slow_out") == 6)
    first, second, *_ = times(runs)
    assert second - first >= pause_s - 0.1


def test_a_server_that_asks_to_wait_is_left_alone_by_everybody(
    redis_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    """Without a rate: one 429 holds the link back on both hosts, and nothing else."""
    runs, pause_s, items = tmp_path / "runs", 10.0, 40
    text = config(runs, options={"retry_after_s": pause_s, "throttle": True})
    with (
        Daemon(tmp_path / "a", redis_url, text, workers=2) as first,
        Daemon(tmp_path / "b", redis_url, text) as second,
    ):
        push(client, "slow", [vcon(subject="busy")])
        assert eventually(lambda: client.hexists("conserver:control", "throttled"))
        push(client, "slow", [vcon() for _ in range(items)])
        assert eventually(lambda: client.zcard("conserver:parked:slow") == items + 1)
        assert client.llen("slow_out") == 0
        push(client, "fast", [vcon() for _ in range(items)])
        assert eventually(lambda: client.llen("fast_out") == items)
        assert client.llen("slow_out") == 0, "the other chain did not wait for this one"
        assert eventually(lambda: client.llen("slow_out") == items + 1)
        # Only the one that met it has made an attempt that came to nothing.
        attempts = first.events("attempt_failed") + second.events("attempt_failed")
        told = first.events("link_throttled") + second.events("link_throttled")
        # The next claim after its time removes it.
        push(client, "fast", [vcon()])
        assert eventually(lambda: not client.exists("conserver:control"))
    assert len(attempts) == len(told) == 1
    found = times(runs)
    assert len(found) == items + 2
    assert found[1] - found[0] >= pause_s - 0.1


def test_what_waits_for_a_chains_rate_is_parked_and_says_so(
    redis_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    text = config(runs)
    text["chains"]["slow"] |= {"rate": "1/h", "rate_burst": 1}
    with Daemon(tmp_path, redis_url, text):
        push(client, "slow", [vcon() for _ in range(COUNT)])
        assert eventually(lambda: client.llen("slow_out") == 1)
        assert eventually(lambda: client.zcard("conserver:parked:slow") > 0)
        waiting = ("conserver:returned:slow", "slow")

        def counted() -> bool:
            parked = client.zcard("conserver:parked:slow")
            return parked + sum(map(client.llen, waiting)) == COUNT - 1

        assert eventually(counted)
        parked = client.zcard("conserver:parked:slow")
        assert parked <= 256, "most wait in their list, in their order"
