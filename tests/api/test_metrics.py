"""/metrics and /metrics/queues on the API's port: who may read them, and what requests count as."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
from prometheus_client import parser

from tests.daemon import vcon

Clients = Callable[[str], httpx.Client]
PLAIN: Any = parser.text_string_to_metric_families


def samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """The values of a sample name, by the values of its labels in the order of their names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in PLAIN(text)
        for sample in family.samples
        if sample.name == name
    }


def test_requests_are_counted_by_route_template(clients: Clients) -> None:
    uuids = [vcon()["uuid"] for _ in range(20)]
    for uuid in uuids:
        assert clients("read").get(f"/v1/vcons/{uuid}").status_code == 404
    for path in ("/nothing/here", "/v1/../../etc/passwd", "/v1/vcons/%00", '/"}x'):
        clients("read").get(path)
    clients("read").request("PROPFIND", "/v1/lists")
    text = clients("read").get("/metrics").text
    found = samples(text, "conserver_http_requests_total")
    assert found["GET", "/v1/vcons/{uuid}", "404"] >= 20
    assert any(method == "other" for method, _, _ in found)
    assert not re.search("|".join(uuids), text)
    assert "etc/passwd" not in text
    took = samples(text, "conserver_http_request_duration_seconds_count")
    assert took["GET", "/v1/vcons/{uuid}"] >= 20


def test_what_redis_knows(clients: Clients) -> None:
    clients("submit").post("/v1/vcons", params={"list": "calls"}, json=vcon())
    found = samples(clients("read").get("/metrics/queues").text, "conserver_list_items")
    assert found["calls", "queued"] == 1
    served = samples(clients("read").get("/metrics/queues").text, "conserver_list_served")
    assert served["calls",] == 0


def test_the_format_is_negotiated(clients: Clients) -> None:
    for path in ("/metrics", "/metrics/queues"):
        assert clients("read").get(path).headers["content-type"].startswith("text/plain")
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        answer = clients("read").get(path, headers=accept)
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")


def test_who_may_read_them(clients: Clients) -> None:
    """They name every list: nothing for strangers, nor for tokens of some lists."""
    for path in ("/metrics", "/metrics/queues"):
        assert clients("").get(path).status_code == 401
        assert clients("submit").get(path).status_code == 403
        assert clients("narrow").get(path).status_code == 403
        assert clients("admin").get(path).status_code == 200
