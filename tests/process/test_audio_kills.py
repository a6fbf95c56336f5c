"""Clients of the transcription server while its processes die."""

from __future__ import annotations

import random
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import openai
import pytest
import redis

from tests.daemon import Daemon
from tests.helpers import eventually, free_port
from tests.process.test_audio import CONFIG, TEXT, long_call


@pytest.mark.slow
@pytest.mark.timeout(300)
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
            eventually(lambda due=3 * number + 1: ended(client) >= due, 60)  # type: ignore[misc]
            if pids := daemon.pids(victim):
                daemon.signal(signal.SIGKILL, chance.choice(pids))
        for number, one in enumerate(asked):
            assert one.result(120) == " ".join([TEXT] * (8 + number % 5))
        assert client.zcard("conserver:jobs") == 24
        assert client.keys("DLQ:*") == []
        assert len(daemon.events("child_died")) >= 4


def ended(client: redis.Redis) -> int:
    """How many jobs are completed."""
    return sum(client.hget(key, "status") == b"completed" for key in client.keys("conserver:job:*"))
