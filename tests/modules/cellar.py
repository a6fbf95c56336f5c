"""A storage in Redis that breaks in the way a vCon says, as a client library in C may.

The vCon's member `storing` names the deed, as "deed" or "deed:argument"; it is done while the batch
with that vCon is being stored, before anything of the batch is written. Documents are in the hash
`cellar`, by uuid; every batch leaves the uuids it holds in the list `batches`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis
from pydantic import BaseModel, ConfigDict

from storage.contract import Document, Outcome, Stored


class Options(BaseModel):
    """Where the cellar is."""

    model_config = ConfigDict(extra="forbid")

    redis_url: str
    timeout_s: float = 30
    get_gate: str = ""
    """If set, a look-up waits until this file exists."""


class Storage:
    """One cellar."""

    def __init__(self, name: str, options: Options) -> None:
        self._url = options.redis_url
        self._get_gate = options.get_gate
        self._client: redis.Redis | None = None

    def open(self) -> None:
        self._client = redis.Redis.from_url(self._url)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        client = self._opened
        client.rpush("batches", " ".join(document.uuid for document in documents))
        for document in documents:
            deed, _, argument = str(document.data.get("storing") or "").partition(":")
            if deed:
                DEEDS[deed](argument)
        client.hset("cellar", mapping={document.uuid: document.body for document in documents})
        return [Stored() for _ in documents]

    def get(self, uuid: str) -> bytes | None:
        if self._get_gate:
            _wait_for_gate(self._get_gate)
        found: Any = self._opened.hget("cellar", uuid)
        return found if found is None else bytes(found)

    def delete(self, uuid: str) -> bool:
        return bool(self._opened.hdel("cellar", uuid))

    def ready(self) -> None:
        self._opened.ping()

    @property
    def _opened(self) -> redis.Redis:
        assert self._client is not None
        return self._client


def prepare(options: Options) -> None:
    """Nothing is heavy here."""


def _wait_for_gate(argument: str) -> None:
    """Wait until the file exists: the test decides when."""
    deadline_s = time.monotonic() + 120
    while not Path(argument).exists():
        if time.monotonic() > deadline_s:
            raise TimeoutError("nobody opened the gate")
        time.sleep(0.01)


DEEDS: dict[str, Callable[[str], object]] = {
    "gate": _wait_for_gate,
    "exit": lambda argument: os._exit(int(argument or 5)),
    "segfault": lambda _: ctypes.string_at(0),
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "sleep": lambda argument: time.sleep(float(argument)),
}
