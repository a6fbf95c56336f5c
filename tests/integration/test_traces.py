"""Spans of a library that makes its own, on a real server: Elasticsearch's client."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.collector import Collector
from tests.daemon import Daemon, push, vcon
from tests.process.items import arrived


def test_the_spans_of_elasticsearchs_client_join_the_items_trace(
    server: redis.Redis,
    redis_url: str,
    elasticsearch_url: str,
    elasticsearch_index: str,
    tmp_path: Path,
) -> None:
    config = {
        "links": {"tag": {"module": "links.tag", "options": {"tags": ["seen"]}}},
        "storages": {
            "search": {
                "module": "storage.elasticsearch",
                "options": {"url": elasticsearch_url, "index": elasticsearch_index},
            }
        },
        "chains": {
            "main": {
                "links": ["tag"],
                "storages": ["search"],
                "ingress_lists": ["in"],
                "egress_lists": ["out"],
            }
        },
    }
    with (
        Collector() as collector,
        Daemon(tmp_path / "host", redis_url, config, "fork", 1, **collector.environment) as daemon,
    ):
        [uuid] = push(server, "in", [vcon()])
        daemon.until(arrived(server, [uuid]))
        [process] = collector.wait_for("process in")
        [write] = collector.wait_for("write search")
        [bulk] = collector.wait_for("bulk")
    assert write.parent == process.id
    assert bulk.parent == write.id
    assert bulk.attributes["db.system"] == "elasticsearch"
    assert {span.trace for span in (process, write, bulk)} == {process.trace}
