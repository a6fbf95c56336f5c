"""Conserver for a test: a configuration, a Redis in memory, and one worker in the test's thread.

    def test_a_word_becomes_a_tag(conserver: Conserver) -> None:
        conserver.configure("keywords.yml")
        uuid = conserver.push("calls", {"dialog": [{"type": "text", "body": "a refund"}]})
        conserver.run_until_settled()
        assert conserver.egress("calls_done") == [uuid]
        assert conserver.vcon(uuid).tags == {"mentions": "money"}

The worker's code, the Lua scripts and the storages are the real ones. There is no supervisor and no
coordinator, so there are no heartbeats, no dead hosts, and no kills for hard time limits.
"""

from __future__ import annotations

import os
import uuid as uuidlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import redis
import yaml

from conserver.config import model
from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.operations import dead_letters
from conserver.operations.documents import StorageReader
from conserver.queue import clients, host_calls, keys, record, script
from conserver.testing.worker import SteppedWorker
from conserver.vcon.document import Vcon

_PROMOTED = 256


class Conserver:
    """A worker and its Redis, for a test. Use the fixture `conserver`, or a `with` block.

    Attributes:
        client: a client of the Redis.
    """

    def __init__(self, redis_url: str) -> None:
        """redis_url: the URL of an empty Redis."""
        self._url = redis_url
        self.client: redis.Redis = clients.client(redis_url)
        self._config: Config | None = None
        self._worker: SteppedWorker | None = None
        self._reader: StorageReader | None = None

    def configure(
        self,
        config: Mapping[str, Any] | str | Path,
        environ: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        """Load a configuration, as `conserver run` does. It replaces an earlier one.

        Args:
            config: the path of a configuration file, its text, or its content as a dict.
            environ: the values of `${NAME}` in the configuration; by default os.environ.
            settings: settings, by the names of their fields in conserver.config.settings.

        Raises:
            ConfigError: all problems of the configuration, its links and its storages.
        """
        self._close_worker()
        environ = os.environ if environ is None else environ
        self._config = _loaded(config, environ)
        values = {**settings, "redis_url": self._url}
        self._worker = SteppedWorker(self._config, Settings.model_validate(values))
        self._reader = StorageReader(self._config)

    def push(self, list_name: str, vcon: Mapping[str, Any] | Vcon | bytes | str) -> str:
        """Store a vCon in Redis and push its uuid, as producers do. Returns the uuid.

        Args:
            vcon: a dict, to which `vcon` and a uuid are added if they are missing; JSON as bytes or
                text, which is stored unchanged; or a uuid, which is pushed without a document.
        """
        if isinstance(vcon, str) and not vcon.lstrip().startswith("{"):
            self.client.rpush(list_name, vcon)
            return vcon
        body, uuid = _body(vcon)
        self.client.set(keys.document(uuid), body)
        self.client.rpush(list_name, uuid)
        return uuid

    def run_once(self) -> int:
        """Run all items that wait in lists. Parked items (retries, storages that are away) stay
        parked.

        Returns the number of items that have run.
        """
        return self._working.work()

    def run_until_settled(self, rounds: int = 50) -> None:
        """Run all items, parked ones too, without waiting until they are due, until none is left.

        Raises:
            AssertionError: items are still parked after `rounds` rounds.
        """
        left: dict[str, dict[str, str]] = {}
        for number in range(rounds):
            if number:
                self._promote()
            self.run_once()
            left = {name: parked for name in self._lists if (parked := self.parked(name))}
            if not left:
                return
        raise AssertionError(f"still parked after {rounds} rounds: {left}")

    # ---- looking ---------------------------------------------------------------------------------

    def vcon(self, uuid: str) -> Vcon | None:
        """The document in Redis; None if there is none."""
        body: Any = self.client.get(keys.document(uuid))
        return None if body is None else Vcon.parse(body)

    def stored(self, storage: str, uuid: str) -> dict[str, Any] | None:
        """The vCon in the storage with this name, parsed; None if the storage does not have it."""
        assert self._reader is not None, "configure() comes first"
        body = self._reader.get(storage, uuid)
        return None if body is None else dict(orjson.loads(body))

    def egress(self, list_name: str) -> list[str]:
        """The uuids on an egress list, or on any other list that no chain serves."""
        found: Any = self.client.lrange(list_name, 0, -1)
        return [element.decode() for element in found]

    def parked(self, list_name: str) -> dict[str, str]:
        """The parked items of an ingress list: uuid -> the last error."""
        found: Any = self.client.zrange(keys.parked(list_name), 0, -1)
        items = [record.parse(element) for element in found]
        return {
            item.payload.decode("utf-8", "replace"): record.Progress.load(item.state).error
            for item in items
        }

    def dead_letters(self, list_name: str) -> list[dict[str, Any]]:
        """The dead letters of an ingress list, oldest first, as `conserver dlq show --json` does.

        Each has, among other members, uuid, reason, error, link or storage, attempts and traceback.
        """
        wanted = dead_letters.Filter(names=(list_name,))
        return [dead_letters.details(letter) for letter in dead_letters.select(self.client, wanted)]

    # ---- start and end ---------------------------------------------------------------------------

    def close(self) -> None:
        """Close the worker, the storages and the connections."""
        self._close_worker()
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _working(self) -> SteppedWorker:
        assert self._worker is not None, "configure() comes first"
        return self._worker

    @property
    def _lists(self) -> list[str]:
        return [] if self._config is None else list(self._config.ingress)

    def _promote(self) -> None:
        """Move all parked items to `returned`, even if they are not due."""
        for name in self._lists:
            while script.run(self.client, host_calls.promote(name, _PROMOTED, True)):
                continue

    def _close_worker(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._worker is not None:
            self._worker.close()
        self._reader = self._worker = None


def _loaded(config: Mapping[str, Any] | str | Path, environ: Mapping[str, str]) -> Config:
    if isinstance(config, Path) or (isinstance(config, str) and "\n" not in config):
        return model.load(config, environ)
    text = config if isinstance(config, str) else yaml.safe_dump(dict(config))
    return model.parse(text, environ)


def _body(vcon: Mapping[str, Any] | Vcon | bytes | str) -> tuple[bytes, str]:
    """The bytes of a document, and its uuid."""
    if isinstance(vcon, Vcon):
        return vcon.dump(), vcon.uuid
    if isinstance(vcon, Mapping):
        vcon = orjson.dumps({"vcon": "0.4.0", "uuid": str(uuidlib.uuid4()), **vcon})
    body = vcon.encode() if isinstance(vcon, str) else vcon
    return body, Vcon.parse(body).uuid
