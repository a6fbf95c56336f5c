"""storage.elasticsearch_client with the client that is installed: which node is asked, how it logs
in, what is trusted, what an answer becomes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from storage import elasticsearch
from storage.elasticsearch import Options
from storage.elasticsearch_client import Answer, Cluster
from tests.helpers import TcpProxy, eventually, free_port
from tests.standins import Answer as Told
from tests.standins import Request, Standin

PRODUCT = {"x-elastic-product": "Elasticsearch", "content-type": "application/json"}


def saying(status: int = 200, **data: Any) -> Callable[[Request], Told]:
    return lambda _: Told(status, json.dumps(data).encode(), PRODUCT)


def cluster(*urls: str, **options: Any) -> Cluster:
    given = {"url": list(urls), "timeout_s": 5, **options}
    return Cluster(Options.model_validate(given))


def get(asked: Cluster) -> Answer:
    return asked.ask(lambda client: client.get(index="i", id="1"))


def bulk(asked: Cluster) -> Answer:
    lines: list[Any] = [b'{"index":{}}\n{"a":1}\n', b'{"index":{}}\n{"a":2}\n']
    return asked.ask(lambda client: client.bulk(index="i", operations=lines, timeout="5ms"))


@pytest.fixture
def stuck() -> Iterator[Standin]:
    """A server that answers only when the test is over."""
    over = threading.Event()

    def answer(_: Request) -> Told:
        over.wait(60)
        return Told()

    with Standin(answer) as server:
        yield server
        over.set()


def test_a_bulk_is_one_request_of_the_bytes_that_were_prepared() -> None:
    with Standin(saying(items=[])) as server, closing(cluster(f"{server.url}/behind/a/path")) as a:
        assert bulk(a) == Answer(200, {"items": []})
        (request,) = server.requests
    assert request.path == "/behind/a/path/i/_bulk?timeout=5ms"
    assert "x-ndjson" in request.headers["content-type"]
    assert request.body == b'{"index":{}}\n{"a":1}\n{"index":{}}\n{"a":2}\n'
    assert "authorization" not in request.headers


@pytest.mark.parametrize("kind", ["text/html", "application/xml", "application/json"])
def test_an_answer_that_is_no_json_is_read_as_nothing(kind: str) -> None:
    """A load balancer answers for a node that is away, in whatever language."""
    body = b"" if kind.endswith("json") else b"<html>no</html>"
    headers = {"retry-after": "7", "content-type": kind}
    with (
        Standin(lambda _: Told(502, body, headers)) as server,
        closing(cluster(server.url)) as asked,
    ):
        assert get(asked) == Answer(502, {}, 7)
        assert str(get(asked).error("no")) == "no: (HTTP status 502)"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_the_client_repeats_nothing(status: int) -> None:
    with Standin(saying(status)) as server, closing(cluster(server.url)) as asked:
        assert get(asked).status == status
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"api_key": "encoded=="}, "ApiKey encoded=="),
        ({"username": "u", "password": "p:ä"}, "Basic dTpwOsOk"),
        ({"bearer_token": "tok"}, "Bearer tok"),
    ],
)
def test_logging_in(options: dict[str, str], expected: str) -> None:
    with Standin(saying()) as server, closing(cluster(server.url, **options)) as asked:
        get(asked)
        assert server.requests[0].headers["authorization"] == expected


def test_logging_in_by_the_url() -> None:
    with Standin(saying()) as server:
        url = server.url.replace("://", "://user:p%40ss@")
        with closing(cluster(url)) as asked:
            get(asked)
        encoded = base64.b64encode(b"user:p@ss").decode()
        assert server.requests[0].headers["authorization"] == f"Basic {encoded}"
        assert "user" not in server.requests[0].headers["host"]


@pytest.mark.parametrize(
    ("status", "kind", "error", "said"),
    [
        (401, "security_exception", PermissionError, "refuses the login"),
        (403, "security_exception", PermissionError, "lacks a right"),
        (403, "cluster_block_exception", ConnectionError, "cluster_block_exception: why"),
        (400, "media_type_header_exception", ConnectionError, "version 9 to servers 9 only"),
    ],
)
def test_a_refusal_is_told_as_what_it_is(
    status: int, kind: str, error: type[Exception], said: str
) -> None:
    answer = saying(status, error={"type": kind, "reason": "why"})
    with Standin(answer) as server, closing(cluster(server.url, api_key="s3cret")) as asked:
        made = get(asked).error("cannot look")
    assert isinstance(made, error)
    assert said in str(made)
    assert "s3cret" not in str(made)


def test_what_is_no_elasticsearch_says_so() -> None:
    with (
        Standin(lambda _: Told(200, b"{}")) as server,
        closing(cluster(server.url)) as asked,
        pytest.raises(ConnectionError, match="X-Elastic-Product"),
    ):
        get(asked)


def test_headers_of_the_operator_are_sent() -> None:
    options = {"headers": {"X-Gateway": "t0ken"}}
    with Standin(saying()) as server, closing(cluster(server.url, **options)) as asked:
        get(asked)
    assert server.requests[0].headers["x-gateway"] == "t0ken"
    assert "t0ken" not in repr(Options.model_validate({"url": server.url, **options}))


def test_requests_are_compressed_where_it_is_asked_for() -> None:
    with Standin(saying()) as server, closing(cluster(server.url, http_compress=True)) as asked:
        bulk(asked)
        (request,) = server.requests
    assert request.headers["content-encoding"] == "gzip"
    assert gzip.decompress(request.body).count(b"\n") == 4


def test_a_warning_of_the_server_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def answer(_: Request) -> Told:
        return Told(200, b"{}", {**PRODUCT, "warning": '299 Elasticsearch-9 "is deprecated"'})

    with (
        caplog.at_level(logging.INFO),
        Standin(answer) as server,
        closing(cluster(server.url)) as asked,
    ):
        assert get(asked).status == 200
    assert "is deprecated" in caplog.text


def test_a_node_that_is_away_is_left_for_the_next() -> None:
    away = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    with (
        Standin(saying(ok=True)) as server,
        closing(cluster(away[0], server.url, away[1], server.url)) as asked,
    ):
        for _ in range(4):
            assert get(asked).data == {"ok": True}
        assert server.count("GET") == 4


def test_all_nodes_away() -> None:
    away = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    with closing(cluster(*away)) as asked, pytest.raises(ConnectionError, match="refused"):
        get(asked)


def test_an_answer_that_does_not_come_is_not_asked_for_elsewhere(stuck: Standin) -> None:
    other = stuck.url.replace("127.0.0.1", "localhost")
    with closing(cluster(stuck.url, other, timeout_s=2)) as asked:
        with pytest.raises(TimeoutError):
            bulk(asked)
        eventually(lambda: stuck.requests)
        assert len(stuck.requests) == 1


def test_a_connection_closed_while_idle_costs_nothing() -> None:
    with Standin(saying()) as server, TcpProxy(int(server.url.rpartition(":")[2])) as proxy:
        with closing(cluster(proxy.url(server.url))) as asked:
            for _ in range(3):
                assert get(asked).status == 200
                proxy.cut_all()
        assert proxy.connections == 3


def test_a_certificate_is_trusted_by_its_fingerprint(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=elsewhere".split()
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    shown = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()
    pairs = [shown[i : i + 2].upper() for i in range(0, len(shown), 2)]
    with Standin(saying(ok=True), tls=context) as server:
        with closing(cluster(server.url, ca_fingerprint=":".join(pairs))) as asked:
            assert get(asked).data == {"ok": True}
        for options, said in (
            ({"ca_fingerprint": "0" * 64}, "has the fingerprint"),
            ({}, "CERTIFICATE_VERIFY_FAILED"),
        ):
            with (
                closing(cluster(server.url, **options)) as asked,
                pytest.raises(ConnectionError, match=said),
            ):
                get(asked)
        assert server.count("GET") == 1


def cloud_id(text: str) -> str:
    return "name:" + base64.b64encode(text.encode()).decode()


def test_an_id_of_elastic_cloud() -> None:
    """Its name cannot be found here, but the error says which it was."""
    options = {"url": None, "cloud_id": cloud_id("cloud.invalid:9243$abc$def"), "timeout_s": 5}
    made = Cluster(Options.model_validate(options))
    with closing(made), pytest.raises(ConnectionError, match=r"abc\.cloud\.invalid:9243"):
        get(made)


@pytest.mark.parametrize("text", ["", "name:", "name:%%%", cloud_id("host"), cloud_id("$abc")])
def test_what_is_no_id_of_elastic_cloud(text: str) -> None:
    with pytest.raises(ValidationError, match=r"Elastic Cloud|either url"):
        Options.model_validate({"cloud_id": text})


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": "a", "bearer_token": "b"},
        {"username": "a"},
        {"password": "a"},
        {"ca_fingerprint": "abc"},
        {"client_key": "/a.pem"},
        {"sniff_timeout": 0},
        {"server_mode": "cloud"},
        {"url": "localhost:9200"},
        {"url": ["http://a", "ftp://b"]},
        {"url": None, "cloud_id": cloud_id("host$abc$"), "sniff_on_start": True},
    ],
    ids=json.dumps,
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"url": "http://a:9200", **options})


def test_serverless_needs_a_client_that_knows_it() -> None:
    options = Options.model_validate({"url": "http://a:9200", "server_mode": "serverless"})
    try:
        elasticsearch.prepare(options)
    except ValueError as error:
        assert "elasticsearch" in str(error)  # noqa: PT017 (of either version of the client)
    else:
        with (
            Standin(saying()) as server,
            closing(cluster(server.url, server_mode="serverless")) as a,
        ):
            get(a)
            assert "elastic-api-version" in server.requests[0].headers
