"""A worker imports nothing that its configuration does not need.

Each import costs every worker time at its start and memory for life.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.daemon import Daemon, push, vcon
from tests.guards.counting import figure

METHODS = ["fork", "spawn", "forkserver"]
CLIENTS = {
    "postgres": "psycopg",
    "s3": "botocore",  # for what the options leave open
    "elasticsearch": "elasticsearch",
    "mongo": "pymongo",
}
NEVER = frozenset(
    "boto3 botocore psycopg elasticsearch elastic_transport pymongo sqlite3 faster_whisper "
    "ctranslate2 onnx_asr onnxruntime av numpy httpx requests jq typer click rich fastapi uvicorn "
    "starlette prometheus_client pytest hypothesis conserver.plugins.compat conserver.cli.app "
    "conserver.supervisor conserver.coordinator.coordinator conserver.media.transcription "
    "opentelemetry.sdk.trace opentelemetry.exporter conserver.telemetry.otel".split()
)
READING = frozenset(
    {"storage.reading", *(f"storage.reading.{part}" for part in ("content", "tags", "transcripts"))}
)
Census = Callable[..., frozenset[str]]


@pytest.fixture
def census(redis_url: str, tmp_path: Path) -> Iterator[Census]:
    """Runs a daemon and returns the modules that its worker has imported."""
    with ExitStack() as stack:
        client = stack.enter_context(redis.Redis.from_url(redis_url))

        def take(method: str, storages: Mapping[str, Any] | None = None) -> frozenset[str]:
            file = tmp_path / f"{method}-modules"
            config = {
                "links": {
                    "tag": {"module": "links.tag", "options": {"tags": ["seen"]}},
                    "census": {"module": "tests.modules.census", "options": {"file": str(file)}},
                },
                "storages": storages or {},
                "chains": {
                    "main": {
                        "links": ["tag", "census"],
                        "storages": list(storages or {}),
                        "ingress_lists": ["in"],
                    }
                },
            }
            with Daemon(tmp_path / f"host-{method}", redis_url, config, method) as daemon:
                push(client, "in", [vcon()])
                daemon.until(file.exists)
                return frozenset(file.read_text().split("\n"))

        yield take


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_only_tags_has_no_client_and_no_command_line(
    method: str, census: Census
) -> None:
    found = census(method)
    figure(f"a worker that tags, {method}", len(found), "modules")
    # Nothing of what transcribers compute with: no link asks for one.
    inherited = {"conserver.supervisor"} if method == "fork" else set()
    assert found & NEVER <= inherited
    # The forkserver imports by itself, and so finds all that redis-py looks for.
    assert ("opentelemetry" in found) == (method == "forkserver")
    assert "conserver.links.tag" in found
    others = {name for name in found if name.startswith("conserver.links.")}
    assert others == {"conserver.links.tag", "conserver.links.notify"}, "that one is built in"
    storages = {name for name in found if name.startswith("storage.")} - {"storage.contract"}
    assert all(name.startswith(("storage.reading", "storage.network")) for name in storages)


@pytest.mark.parametrize("name", ["postgres", "s3", "elasticsearch"])
def test_a_worker_has_the_client_of_its_storage_and_of_no_other(name: str, census: Census) -> None:
    nowhere = "127.0.0.1:1"
    options = {
        "postgres": {"url": f"postgresql://u:p@{nowhere}/d"},
        "s3": {"endpoint_url": f"http://{nowhere}", "aws_bucket": "bucket"},
        "elasticsearch": {"url": f"http://{nowhere}"},
    }
    found = census("spawn", {"it": {"module": f"storage.{name}", "options": options[name]}})
    assert CLIENTS[name] in found
    assert not found & (set(CLIENTS.values()) - {CLIENTS[name]})
