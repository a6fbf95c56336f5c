"""storage.elasticsearch_http: which node is asked, how it is logged in to, what is trusted."""

from __future__ import annotations

import base64
import gzip
import hashlib
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from storage.elasticsearch_http import Access, Answer, Cluster, cloud_url
from storage.http import BROKEN
from tests.helpers import free_port
from tests.standins import Answer as Told
from tests.standins import Request, Standin

NOTHING = Access()


def saying(**data: Any) -> Callable[[Request], Told]:
    return lambda _: Told(200, orjson.dumps(data), {"content-type": "application/json"})


def cluster(*urls: str, access: Access = NOTHING, timeout_s: float = 5) -> Cluster:
    return Cluster(list(urls), access, timeout_s)


@pytest.fixture
def stuck() -> Iterator[Standin]:
    """A server that answers only when the test is over."""
    over = threading.Event()

    def answer(_: Request) -> Told:
        over.wait(10)
        return Told()

    with Standin(answer) as server:
        yield server
        over.set()


def test_a_request_and_its_answer() -> None:
    with (
        Standin(saying(items=[])) as server,
        closing(cluster(f"{server.url}/behind/a/proxy")) as asked,
    ):
        answer = asked.request("POST", "/i/_bulk", {"timeout": "5ms"}, b"{}\n{}\n", lines=True)
        assert answer == Answer(200, {"items": []})
        (request,) = server.requests
    assert request.path == "/behind/a/proxy/i/_bulk?timeout=5ms"
    assert request.headers["content-type"] == "application/x-ndjson"
    assert request.headers["accept"] == "application/json"
    assert request.body == b"{}\n{}\n"
    assert "authorization" not in request.headers


def test_what_is_no_json_is_read_as_nothing() -> None:
    def answer(_: Request) -> Told:
        return Told(502, b"<html>no</html>", {"retry-after": "7"})

    with Standin(answer) as server, closing(cluster(server.url)) as asked:
        assert asked.request("GET", "/i") == Answer(502, {}, 7)


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (Access("encoded=="), "ApiKey encoded=="),
        (Access(username="u", password="p:ä"), "Basic dTpwOsOk"),
    ],
)
def test_logging_in(access: Access, expected: str) -> None:
    with Standin(saying()) as server, closing(cluster(server.url, access=access)) as asked:
        asked.request("GET", "/i")
        assert server.requests[0].headers["authorization"] == expected


def test_logging_in_by_the_url() -> None:
    with Standin(saying()) as server:
        url = server.url.replace("://", "://user:p%40ss@")
        with closing(cluster(url)) as asked:
            asked.request("GET", "/i")
        encoded = base64.b64encode(b"user:p@ss").decode()
        assert server.requests[0].headers["authorization"] == f"Basic {encoded}"
        assert "user" not in server.requests[0].headers["host"]


def test_requests_are_compressed_where_it_is_asked_for() -> None:
    with (
        Standin(saying()) as server,
        closing(cluster(server.url, access=Access(compress=True))) as asked,
    ):
        asked.request("PUT", "/i", body=b"{}" * 1000)
        (request,) = server.requests
    assert request.headers["content-encoding"] == "gzip"
    assert gzip.decompress(request.body) == b"{}" * 1000


def test_a_node_that_is_away_is_left_for_the_next() -> None:
    away = f"http://127.0.0.1:{free_port()}"
    with Standin(saying(ok=True)) as server, closing(cluster(away, server.url, away)) as asked:
        for _ in range(4):
            assert asked.request("GET", "/i").data == {"ok": True}
        assert server.count("GET") == 4


def test_all_nodes_away() -> None:
    away = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    with closing(cluster(*away)) as asked, pytest.raises(BROKEN):
        asked.request("GET", "/i")


def test_an_answer_that_does_not_come_is_not_asked_for_elsewhere(stuck: Standin) -> None:
    with closing(cluster(stuck.url, stuck.url, timeout_s=0.2)) as asked:
        with pytest.raises(TimeoutError):
            asked.request("POST", "/i/_bulk", body=b"{}")
        assert stuck.count("POST") == 1


def test_a_certificate_is_trusted_by_its_fingerprint(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=elsewhere".split()
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    shown = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()
    pairs = [shown[i : i + 2].upper() for i in range(0, len(shown), 2)]
    with Standin(saying(ok=True), tls=context) as server:
        with closing(cluster(server.url, access=Access(fingerprint=":".join(pairs)))) as asked:
            assert asked.request("GET", "/i").data == {"ok": True}
        for access in (Access(fingerprint="0" * 64), NOTHING):
            with closing(cluster(server.url, access=access)) as asked, pytest.raises(ssl.SSLError):
                asked.request("GET", "/i")
        assert server.count("GET") == 1


def cloud_id(text: str) -> str:
    return "name:" + base64.b64encode(text.encode()).decode()


def test_an_id_of_elastic_cloud() -> None:
    assert cloud_url(cloud_id("us-east-1.aws.found.io$abc$def")) == (
        "https://abc.us-east-1.aws.found.io:443"
    )
    assert cloud_url(cloud_id("host.example:9243$abc$")) == "https://abc.host.example:9243"


@pytest.mark.parametrize("text", ["", "name:", "name:%%%", cloud_id("host"), cloud_id("$abc")])
def test_what_is_no_id_of_elastic_cloud(text: str) -> None:
    with pytest.raises(ValueError, match="Elastic Cloud"):
        cloud_url(text)
