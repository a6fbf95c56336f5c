"""Jobs under kill -9: each has one end, and it is the one that its item had."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from conserver.queue import jobs, keys, operator_calls, script
from conserver.queue.operator_calls import Submission
from tests.daemon import Daemon, elements, vcon

JOBS = int(os.environ.get("CONSERVER_TEST_JOBS", "150"))
KILLS = int(os.environ.get("CONSERVER_TEST_KILLS", "6"))
DEEDS = {"tag": "completed", "filter": "filtered", "reject": "failed"}


def config(redis_url: str) -> dict[str, Any]:
    trouble = {"module": "tests.modules.trouble", "options": {"redis_url": redis_url}}
    return {
        "links": {"do": trouble, "slow": {"module": "links.delay", "options": {"seconds": 0.02}}},
        "chains": {
            "main": {
                "links": ["slow", "do"],
                "ingress_lists": ["in"],
                "egress_lists": ["out"],
                "max_deliveries": 50,
            }
        },
    }


@pytest.mark.slow
def test_every_job_ends_once_whoever_is_killed(tmp_path: Path, redis_url: str) -> None:
    chance = random.Random(7)
    expected: dict[str, str] = {}
    ends: Counter[str] = Counter()
    with redis.Redis.from_url(redis_url) as client:
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        pubsub.psubscribe("conserver:events:*")
        pubsub.get_message(timeout=60)  # that it has subscribed
        with Daemon(tmp_path, redis_url, config(redis_url), "fork", workers=2) as daemon:
            for number in range(JOBS):
                deed = chance.choice(list(DEEDS))
                subject = {"tag": "nothing", "filter": "filter", "reject": "reject:no"}[deed]
                document = vcon(subject=subject)
                job = f"job-{number}"
                one = Submission("in", document["uuid"], job, orjson.dumps(document))
                assert script.run(client, operator_calls.submit(one)) == [b"queued"]
                expected[job] = DEEDS[deed]
                if number % max(JOBS // KILLS, 1) == 0 and number:
                    who = chance.choice([daemon.worker(1), daemon.worker(2), daemon.coordinator])
                    daemon.signal(signal.SIGKILL, who)

            def statuses() -> dict[str, str]:
                pipe = client.pipeline(transaction=False)
                for job in expected:
                    pipe.hget(keys.job(job), "status")
                return dict(zip(expected, (s.decode() for s in pipe.execute()), strict=True))

            daemon.until(lambda: set(statuses().values()) <= jobs.ENDS, 60)
            assert statuses() == expected
            # Redis has sent them before it told the last status; nothing follows the marker.
            client.publish("conserver:events:the-end", "0 the-end")
            while (message := pubsub.get_message(timeout=60))["data"] != b"0 the-end":
                _number, _, status = message["data"].decode().partition(" ")
                if status in jobs.ENDS:
                    ends[message["channel"].decode().rpartition(":")[2]] += 1
        pubsub.close()
        assert set(ends.values()) == {1}
        assert len(ends) == JOBS
        completed = sum(status == "completed" for status in expected.values())
        assert len(elements(client, "out")) == completed
        assert all("#" not in uuid for uuid in elements(client, "out"))
