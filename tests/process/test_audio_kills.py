"""Clients of the transcription server while its processes die."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import openai
import orjson
import pytest
import redis

from conserver.queue import keys
from tests.clients import http_client
from tests.daemon import Daemon
from tests.helpers import eventually, free_port
from tests.process.test_audio import CONFIG, TEXT, long_call
from tests.process.test_callbacks import SECRET, Receiver, submitted, waiting

RECORDINGS = int(os.environ.get("CONSERVER_TEST_RECORDINGS", "24"))
KILLS = int(os.environ.get("CONSERVER_TEST_KILLS", "6"))
LONG_S = 60


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whoever_is_killed_every_client_gets_its_words_of_one_job(
    tmp_path: Path, redis_url: str
) -> None:
    """API, worker, coordinator and transcriber die while 24 clients wait for their transcripts."""
    port, chance = free_port(), random.Random(14)
    environment = {"CONSERVER_API_PORT": str(port), "CONSERVER_INLINE_BYTES": "100000"}
    with ExitStack() as stack:
        client = stack.enter_context(redis.Redis.from_url(redis_url))
        daemon = Daemon(tmp_path / "host", redis_url, CONFIG, workers=2, **environment)
        stack.enter_context(daemon)
        daemon.event("api_listens", 60)
        ai = stack.enter_context(
            openai.OpenAI(
                base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=30, timeout=60
            )
        )

        def ask(number: int) -> str:
            name, content = long_call(8 + number % 5)
            # Each recording is another one: some silence more.
            answer = ai.audio.transcriptions.create(
                model="whisper-1", file=(name, content + bytes(2 * number))
            )
            return answer.text

        pool = stack.enter_context(ThreadPoolExecutor(24))
        asked = [pool.submit(ask, number) for number in range(24)]
        for number, victim in enumerate(("api", "worker", "api", "coordinator", "transcriber")):
            eventually(lambda due=3 * number + 1: ended(client) >= due, 120)  # type: ignore[misc]
            daemon.signal(signal.SIGKILL, chance.choice(daemon.until(partial(daemon.pids, victim))))
        for number, one in enumerate(asked):
            assert one.result(120) == " ".join([TEXT] * (8 + number % 5))
        assert client.zcard("conserver:jobs") == 24
        assert client.keys("DLQ:*") == []
        daemon.until(lambda: len(daemon.events("child_died")) >= 4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whoever_is_killed_every_recording_is_told_once_or_more_under_one_id(
    tmp_path: Path, redis_url: str
) -> None:
    """CONSERVER_TEST_RECORDINGS and CONSERVER_TEST_KILLS make it longer."""
    port, chance = free_port(), random.Random(12)
    environment = {
        "CONSERVER_API_PORT": str(port),
        "CONSERVER_INLINE_BYTES": "100000",
        "CONSERVER_CALLBACK_PRIVATE_ADDRESSES": "true",
        "CONSERVER_WEBHOOK_SECRET": SECRET,
        "CONSERVER_CALLBACK_BACKOFF_S": "0.2",
        "CONSERVER_CALLBACK_TRIES": "20",
    }
    expected: dict[str, str] = {}
    with ExitStack() as stack:
        client = stack.enter_context(redis.Redis.from_url(redis_url))
        receiver = Receiver()
        stack.callback(receiver.close)
        daemon = Daemon(tmp_path / "host", redis_url, CONFIG, workers=2, **environment)
        stack.enter_context(daemon)
        web = stack.enter_context(http_client(f"http://127.0.0.1:{port}", timeout=LONG_S))
        daemon.event("api_listens", LONG_S)
        callback = orjson.dumps({"url": receiver.url, "format": "text"}).decode()
        for number in range(RECORDINGS):
            job = f"recording-{number}"
            name, content = long_call(1 + number % 4)
            broken = number % 8 == 7
            file = (name, b"no sound at all" if broken else content + bytes(2 * number))
            form = {"list": "calls", "job_id": job, "callback": callback}
            submitted(daemon, web, data=form, files={"file": file})
            expected[job] = "failed" if broken else "completed"
        for number in range(1, KILLS + 1):
            due = number * RECORDINGS // (KILLS + 1)
            daemon.until(partial(told, receiver, due), 10 * LONG_S)
            titles = ("worker", "transcriber", "api", "coordinator", "worker")
            if pids := daemon.pids(titles[number % len(titles)]):
                daemon.signal(signal.SIGKILL, chance.choice(pids))
        daemon.until(lambda: receiver.ends.keys() == expected.keys(), 10 * LONG_S)
        assert {job: end["status"] for job, end in receiver.ends.items()} == expected
        for job, end in receiver.ends.items():
            if expected[job] == "completed":
                said = " ".join([TEXT] * (1 + int(job.rpartition("-")[2]) % 4))
                assert end["result"].split() == said.split()
            else:
                assert end["error"]["type"] == "Rejected", end
        assert Counter(map(len, receiver.ids.values())) == {1: RECORDINGS}, "one id per end"
        daemon.until(lambda: not waiting(client), LONG_S)
        assert client.llen(keys.dead_letters(keys.NOTIFICATIONS)) == 0


def told(receiver: Receiver, due: int) -> bool:
    """Whether so many ends were told."""
    return len(receiver.ends) >= due


def ended(client: redis.Redis) -> int:
    """How many jobs are completed."""
    return sum(client.hget(key, "status") == b"completed" for key in client.keys("conserver:job:*"))
