"""A worker that hears the same words in every recording: a thread over the true queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from conserver.queue import calls
from conserver.queue.calls import Hint
from conserver.queue.record import Claimed
from tests.queues import Consumer, opened

WTF = {
    "transcript": {"text": "Hello. Goodbye <you>.", "language": "en", "duration": 3.5},
    "segments": [
        {"id": 0, "start": 0.0, "end": 1.25, "text": "Hello.", "words": [0]},
        {"id": 1, "start": 2.0, "end": 3.5, "text": "Goodbye <you>.", "words": [1, 2]},
    ],
    "words": [
        {"id": 0, "start": 0.0, "end": 1.25, "text": "Hello."},
        {"id": 1, "start": 2.0, "end": 2.5, "text": "Goodbye"},
        {"id": 2, "start": 2.5, "end": 3.5, "text": "<you>."},
    ],
    "extensions": {
        "whisper": {
            "segments": [
                {"temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.5,
                 "no_speech_prob": 0.01},
                {"temperature": 0.4, "avg_logprob": -0.5, "compression_ratio": 1.25,
                 "no_speech_prob": 0.5},
            ]
        }
    },
}  # fmt: skip
TEXT = "Hello. Goodbye <you>."


Work = Callable[["Worker", Claimed], None]


class Worker:
    """What a test lets it do with an item; by default it hears TEXT."""

    def __init__(self, consumer: Consumer, work: Work | None = None) -> None:
        self.consumer = consumer
        self.taken: list[dict[str, Any]] = []
        """The vCons that it was given."""
        self.work: Work = work or Worker.hear

    def hear(self, item: Claimed) -> None:
        """Add a transcript, and settle."""
        self.settle(item, {"type": "wtf_transcription", "encoding": "json", "body": WTF})

    def settle(self, item: Claimed, *analyses: dict[str, Any], status: str = "completed") -> None:
        """End it with these analyses."""
        document = self.document(item)
        document["analysis"] = [{"dialog": 0, **one} for one in analyses]
        self.consumer.queue.store(item.payload.decode(), orjson.dumps(document))
        self.consumer.settle(item, status=status)

    def show(self, item: Claimed, progress: dict[str, Any]) -> None:
        """A hint of its progress."""
        hint = Hint(item.token, item.epoch, "transcribe", orjson.dumps(progress), 0)
        self.consumer.queue.run(calls.hint(self.consumer.id, [hint]))

    def document(self, item: Claimed) -> dict[str, Any]:
        """Its vCon."""
        found = self.consumer.queue.client.get(f"vcon:{item.payload.decode()}")
        return dict(orjson.loads(found))


@contextmanager
def hearing(redis_url: str, *lists: str, work: Work | None = None) -> Iterator[Worker]:
    """A worker that takes from these lists until the end of the block."""
    stop = threading.Event()
    with opened(redis_url) as queue:
        worker = Worker(Consumer(queue, id="hearing", lists=lists or ("calls",)), work)

        def run() -> None:
            while not stop.wait(0.01):
                for item in worker.consumer.claim().items:
                    worker.taken.append(worker.document(item))
                    worker.work(worker, item)

        thread = threading.Thread(target=run, name="hearing", daemon=True)
        thread.start()
        try:
            yield worker
        finally:
            stop.set()
            thread.join()
