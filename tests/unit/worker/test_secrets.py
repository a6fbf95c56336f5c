"""An error that quotes a secret option of a link or a storage shows it nowhere: neither in the log
nor in anything that the worker leaves in Redis (record, dead letter, job, story).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from conserver.errors import Filtered, Rejected, Retry
from conserver.plugins.loader import LoadedStorage
from conserver.telemetry.log import LineWriter, Renderer
from conserver.vcon.document import Vcon
from tests.conftest import unique
from tests.unit.worker.test_jobs import submit
from tests.workers import SteppedWorker, link, tag

SECRET = "k3y-of-ours"
TEXT = f"refused: {SECRET}"
OPTIONS = {"headers": {"X-Id": SecretStr(SECRET)}}
pytestmark = pytest.mark.usefixtures("forgets_secrets")


def shown(logged: list[Any]) -> str:
    """The captured lines as a worker writes them."""
    renderer = Renderer({"worker": 1}, LineWriter(2), as_text=False)
    return "".join(renderer.render(line.pop("log_level"), line).decode() for line in logged)


@contextmanager
def hiding(redis_url: str, *args: Any, **parts: Any) -> Iterator[SteppedWorker]:
    """A worker with one item. In the end Redis and the log show the error, but no secret."""
    with capture_logs() as logged, SteppedWorker(redis_url, *args, **parts) as worker:
        submit(worker.queue, "j1")
        yield worker
        worker.story_writer.flush()
        kept = repr(worker.queue.everything())
    for text in (kept, shown(logged)):
        assert "refused: ***" in text
        assert SECRET not in text


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize(
    "error",
    [ValueError(TEXT), KeyError(TEXT), Rejected(TEXT), Retry(60, TEXT), Filtered(TEXT)],
    ids=lambda error: type(error).__name__,
)
def test_what_a_link_raises(redis_url: str, error: Exception, checkpoint: bool) -> None:
    def run(_vcon: Vcon, context: Any) -> Vcon:
        if checkpoint:
            context.checkpoint()
        raise error

    links = [replace(link("bad", run), options=OPTIONS)]
    with hiding(redis_url, {"main": {"retries": 0}}, links=links) as worker:
        worker.work()


class _Away:
    """A storage whose calls fail with an error that quotes its key."""

    def open(self) -> None:
        """Connect to nothing."""

    def save_many(self, _documents: Any) -> Any:
        raise ConnectionError(TEXT)

    def close(self) -> None:
        """Nothing is open."""


def test_what_a_storage_raises(redis_url: str) -> None:
    name = unique("away-")
    storage = LoadedStorage(name, "test", make=_Away, options=OPTIONS)  # type: ignore[arg-type]
    with hiding(redis_url, links=[link("a", tag)], storages=[storage]) as worker:
        worker.run(worker.claim_one())
        worker.store()
