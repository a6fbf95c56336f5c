"""Who is let in, and what a stranger can make the API do: nothing, and at a bounded cost."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import httpx
import pytest
import redis
from servers import Redis

from conserver.http import protocol
from tests.api.conftest import TOKENS, Api, document, submitted
from tests.clients import http_client
from tests.conftest import Private
from tests.helpers import TcpProxy, eventually

Clients = Callable[[str], httpx.Client]

# Every route that is not open, with the roles that get in.
ROUTES = [
    ("POST", "/v1/vcons", {"submit", "admin"}),
    ("PUT", "/v1/vcons/u1", {"submit", "admin"}),
    ("GET", "/v1/vcons/u1", {"read", "operate", "admin"}),
    ("DELETE", "/v1/vcons/u1", {"admin"}),
    ("POST", "/v1/jobs", {"submit", "admin"}),
    ("GET", "/v1/jobs", {"submit", "read", "operate", "admin"}),
    ("GET", "/v1/jobs/x", {"submit", "read", "operate", "admin"}),
    ("DELETE", "/v1/jobs/x", {"submit", "read", "operate", "admin"}),
    ("GET", "/v1/jobs/x/events", {"submit", "read", "operate", "admin"}),
    ("GET", "/v1/jobs/x/result", {"submit", "read", "operate", "admin"}),
    ("POST", "/v1/audio/transcriptions", {"submit", "admin"}),
    ("POST", "/v1/audio/translations", {"submit", "admin"}),
    ("GET", "/v1/models", {"submit", "read", "operate", "admin"}),
    ("GET", "/v1/models/x", {"submit", "read", "operate", "admin"}),
    ("POST", "/v1/uploads", {"submit", "admin"}),
    ("PUT", "/v1/uploads/x", {"submit", "admin"}),
    ("GET", "/v1/uploads/x", {"submit", "read", "operate", "admin"}),
    ("GET", "/v1/lists", {"read", "operate", "admin"}),
    ("GET", "/v1/lists/x", {"read", "operate", "admin"}),
    ("GET", "/v1/lists/x/backlog", {"read", "operate", "admin"}),
    ("POST", "/v1/lists/x/pause", {"operate", "admin"}),
    ("POST", "/v1/lists/x/resume", {"operate", "admin"}),
    ("POST", "/v1/lists/x/retry", {"operate", "admin"}),
    ("POST", "/v1/lists/x/empty", {"operate", "admin"}),
    ("GET", "/v1/dead-letters", {"read", "operate", "admin"}),
    ("GET", "/v1/dead-letters/x", {"read", "operate", "admin"}),
    ("GET", "/v1/egress/x", {"read", "operate", "admin"}),
    ("POST", "/v1/egress/x/acknowledge", {"operate", "admin"}),
    ("GET", "/v1/operations", {"read", "operate", "admin"}),
    ("POST", "/v1/operations", {"operate", "admin"}),
    ("GET", "/v1/operations/x", {"read", "operate", "admin"}),
    ("DELETE", "/v1/operations/x", {"operate", "admin"}),
    ("GET", "/v1/schedules", {"read", "operate", "admin"}),
    ("GET", "/v1/schedules/x", {"read", "operate", "admin"}),
    ("POST", "/v1/schedules/x/run", {"operate", "admin"}),
    ("POST", "/v1/schedules/x/pause", {"operate", "admin"}),
    ("POST", "/v1/schedules/x/resume", {"operate", "admin"}),
    ("GET", "/v1/search", {"read", "operate", "admin"}),
    ("GET", "/v1/workers", {"read", "operate", "admin"}),
    ("POST", "/v1/documents", {"submit", "admin"}),
    ("GET", "/v1/status", {"read", "operate", "admin"}),
    ("GET", "/v1/hosts", {"read", "operate", "admin"}),
    ("GET", "/v1/hosts/x/workers/1", {"read", "operate", "admin"}),
    ("GET", "/v1/items/x", {"read", "operate", "admin"}),
    ("GET", "/v1/config", {"read", "operate", "admin"}),
    ("GET", "/v1/audit", {"read", "operate", "admin"}),
    ("POST", "/v1/reload", {"admin"}),
    ("GET", "/v1/reloads/x", {"admin"}),
]


def test_every_route_has_its_role(clients: Clients, api: Api) -> None:
    wrong = []
    for method, path, allowed in ROUTES:
        answer = clients("").request(method, path)
        if answer.status_code != 401 or "www-authenticate" not in answer.headers:
            wrong.append((method, path, "nobody", answer.status_code))
        for role in ("submit", "read", "operate", "admin"):
            answer = clients(role).request(method, path)
            if (answer.status_code == 403) is (role in allowed) or answer.status_code in (401, 500):
                wrong.append((method, path, role, answer.status_code))
    assert not wrong
    schema = httpx.get(f"{api.url}/openapi.json", timeout=60).json()
    there = {
        (method.upper(), path.split("{")[0])
        for path, methods in schema["paths"].items()
        for method in methods
        if path.startswith("/v1")
    }
    tested = {(method, path.split("x")[0].split("u1")[0]) for method, path, _ in ROUTES}
    assert {(m, p.rstrip("/")) for m, p in there} <= {(m, p.rstrip("/")) for m, p in tested}


def test_probes_are_open(clients: Clients) -> None:
    for path in ("/livez", "/readyz", "/openapi.json"):
        assert clients("").get(path).status_code == 200


def test_the_other_header_and_a_prefix(api: Api, clients: Clients) -> None:
    with http_client(api.url, timeout=60) as client:
        headers = {"X-Conserver-Api-Token": "text-read"}
        assert client.get("/v1/jobs", headers=headers).status_code == 200
        assert client.get("/api/v1/jobs", headers=headers).status_code == 200
        assert client.get("/api/api/v1/jobs", headers=headers).status_code == 404
    job = clients("submit").post("/api/v1/vcons?list=calls", content=document()).json()
    assert job["links"]["self"].startswith("/api/v1/jobs/")


def test_guessing_tokens_is_slow_and_shuts_out_nobody(clients: Clients, api: Api) -> None:
    with http_client(api.url, timeout=60) as guess:
        answers = [
            guess.get("/v1/jobs", headers={"Authorization": f"Bearer guess-{number}"})
            for number in range(25)
        ]
    assert [one.status_code for one in answers] == [401] * 20 + [429] * 5
    assert int(answers[-1].headers["retry-after"]) > 0
    assert clients("read").get("/v1/jobs").status_code == 200


def test_a_token_has_its_rate(serve: Callable[..., Api]) -> None:
    api = serve(CONSERVER_API_RATE_PER_MINUTE="3")
    with api.client("read") as read, api.client("submit") as submit:
        answers = [read.get("/v1/jobs") for _ in range(4)]
        assert submit.get("/v1/jobs").status_code == 200
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 20


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil", ""])
def test_without_tokens_only_this_machines_names_are_served(
    serve: Callable[..., Api], host: str
) -> None:
    api = serve(open_to_all=True)
    with http_client(api.url, timeout=60) as client:
        assert client.get("/v1/jobs").status_code == 200
        assert client.get("/v1/jobs", headers={"Host": host}).status_code == 421
        assert client.get("/v1/jobs", headers={"Host": "localhost:80"}).status_code == 200


ELSEWHERE = [
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
]


@pytest.mark.parametrize("said", ELSEWHERE)
def test_without_tokens_a_page_of_a_stranger_changes_nothing(
    serve: Callable[..., Api], said: dict[str, str]
) -> None:
    api = serve(open_to_all=True)
    with httpx.Client(base_url=api.url, timeout=60) as client:
        paused = client.post("/v1/lists/calls/pause", headers=said)
        assert (paused.status_code, paused.json()["type"]) == (403, "foreign-origin")
        job = {"list": "calls", "url": "https://example.com/a.wav"}
        assert client.post("/v1/jobs", json=job, headers=said).status_code == 403
        popped = client.get("/vcon/egress", params={"egress_list": "out"}, headers=said)
        assert popped.status_code == 403
        assert not client.get("/v1/lists/calls").json()["paused"]
        assert client.get("/v1/jobs").json()["jobs"] == []


def test_without_tokens_ones_own_pages_and_links_to_the_dashboard_work(
    serve: Callable[..., Api],
) -> None:
    api = serve(open_to_all=True, CONSERVER_API_CORS_ORIGINS="https://good.example")
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    with httpx.Client(base_url=api.url, timeout=60) as client:
        for path in ("/ui/", "/api/ui/", "/ui/jobs"):
            assert client.get(path, headers=link).status_code == 200
        for said in (
            {"Sec-Fetch-Site": "same-origin", "Origin": api.url},
            {"Sec-Fetch-Site": "none"},
            {"Origin": api.url},
            {"Sec-Fetch-Site": "cross-site", "Origin": "https://good.example"},
        ):
            assert client.post("/v1/lists/calls/pause", headers=said).status_code == 200


def test_a_proxy_that_asks_who_they_are_is_not_used_by_a_strangers_page(
    serve: Callable[..., Api],
) -> None:
    api = serve(open_to_all=True, CONSERVER_API_OPEN="true")
    with httpx.Client(base_url=api.url, timeout=60) as client:
        ours = {"Host": "backend", "Origin": "https://shown.example"}
        for site, status in (("same-origin", 200), ("cross-site", 403)):
            said = {**ours, "Sec-Fetch-Site": site}
            assert client.post("/v1/lists/calls/pause", headers=said).status_code == status


def test_pages_of_strangers_get_no_permission(serve: Callable[..., Api]) -> None:
    origin = {"Origin": "https://evil.example"}
    api = serve()
    with api.client("read") as client:
        assert "access-control-allow-origin" not in client.get("/v1/jobs", headers=origin).headers
    api = serve(CONSERVER_API_CORS_ORIGINS="https://good.example")
    with api.client("read") as client:
        assert "access-control-allow-origin" not in client.get("/v1/jobs", headers=origin).headers
        good = {"Origin": "https://good.example"}
        answer = client.get("/v1/jobs", headers=good)
        assert answer.headers["access-control-allow-origin"] == "https://good.example"


def raw(api: Api, text: bytes, wait_s: float = 60) -> bytes:
    """What comes back for bytes as they are, up to the end of the connection."""
    with socket.create_connection((api.host, api.port), timeout=wait_s) as connection:
        connection.sendall(text)
        return connection.recv(65_536)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/../../etc/passwd",
        "/v1/uploads/..%2f..%2fetc%2fpasswd",
        "/v1/vcons/..%2f..%2fetc",
        "//v1/jobs",
        "/v1/lists/conserver:jobs",
        "/v1/lists/DLQ:calls/pause",
        "/v1/%00",
        "/" + "a" * 5000,
        "http://evil.example/v1/jobs",
    ],
)
def test_paths_lead_nowhere(api: Api, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer text-admin\r\n\r\n"
    status = int(raw(api, head.encode()).split()[1])
    assert status in (400, 404, 405, 422) or (path.startswith("http:") and status == 200)


def test_a_header_bomb_is_cut_off(api: Api) -> None:
    with socket.create_connection((api.host, api.port), timeout=60) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        sent = 0
        try:
            while sent < 100 * protocol.HEAD_BYTES_MAX:
                sent += connection.send(b"X-A: " + b"a" * 1000 + b"\r\n")
        except OSError:
            pass  # Cut off.
    assert sent < 100 * protocol.HEAD_BYTES_MAX
    assert b" 431 " in raw(api, b"GET / HTTP/1.1\r\nA: " + b"a" * 40_000)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("endless", [b"x: " + b"a" * 1000 + b"\r\n", b"a" * 1000])
def test_trailers_are_bounded_as_headers_are(api: Api, endless: bytes) -> None:
    head = b"POST /v1/vcons HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    with socket.create_connection((api.host, api.port), timeout=60) as connection:
        connection.sendall(head)
        assert b" 401 " in connection.recv(65_536)
        assert _is_cut_off(connection, endless, 16 * protocol.HEAD_BYTES_MAX)


def _is_cut_off(connection: socket.socket, endless: bytes, size: int) -> bool:
    """Whether a server ends the connection while it is sent so many bytes."""
    try:
        connection.sendall(endless * (size // len(endless)))
        return b" 431 " in connection.recv(65_536)
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def test_a_head_that_drips_is_cut_off(api: Api) -> None:
    began_s = time.monotonic()
    with socket.create_connection((api.host, api.port), timeout=60) as connection:
        connection.settimeout(0.5)
        answer = b""
        letters = iter(b"GET /livez HTTP/1.1\r\nX: " + b"a" * 1000)
        while not answer and time.monotonic() - began_s < 3 * protocol.HEAD_S_MAX:
            try:
                connection.sendall(bytes([next(letters)]))
                answer = connection.recv(1000)
            except TimeoutError:
                continue
    assert b" 408 " in answer
    assert time.monotonic() - began_s >= protocol.HEAD_S_MAX - 1


def test_a_body_bomb_is_refused_before_it_is_read(api: Api) -> None:
    head = b"POST /v1/vcons HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer text-submit\r\n"
    answer = raw(api, head + b"Content-Length: 99999999999\r\n\r\n")
    assert b" 413 " in answer
    answer = raw(api, head + b"Content-Length: -1\r\n\r\n")
    assert b" 400 " in answer
    # A declared encoding is not followed: nothing is unpacked.
    answer = raw(api, head + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00")
    assert b" 422 " in answer


def test_a_request_id_comes_back_if_it_is_one(clients: Clients) -> None:
    client = clients("read")
    assert client.get("/livez", headers={"X-Request-Id": "a-1"}).headers["x-request-id"] == "a-1"
    answer = client.get("/livez", headers={"X-Request-Id": "a b"})
    assert answer.headers["x-request-id"] != "a b"


def test_errors_show_nothing_of_the_inside(serve: Callable[..., Api], redis_url: str) -> None:
    with TcpProxy(int(redis_url.rpartition(":")[2].partition("/")[0])) as proxy:
        api = serve(url=proxy.url(redis_url))
        with api.client("admin") as client:
            submitted(client)
            proxy.refuse()
            for path in ("/v1/jobs", "/v1/jobs/x", "/v1/status", "/v1/vcons/u1", "/v1/lists"):
                answer = client.get(path)
                assert answer.status_code == 503, path
                assert answer.json()["type"] == "redis-away"
                assert "127.0.0.1" not in answer.text
            assert client.get("/readyz").status_code == 503
            assert client.get("/livez").status_code == 200
            proxy.start()
            eventually(lambda: client.get("/readyz").status_code == 200)


def test_a_redis_that_is_full_takes_nothing(serve: Callable[..., Api], private: Private) -> None:
    server = private(Redis())
    api = serve(url=server.url)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
    with api.client("submit") as submit:
        answer = submit.post("/v1/vcons", params={"list": "calls"}, content=document())
        assert (answer.status_code, answer.json()["type"]) == (503, "redis-full")
        answer = submit.post("/v1/vcons", content=document())
        assert (answer.status_code, answer.json()["type"]) == (503, "redis-full")


def test_a_key_of_another_type_is_no_500(clients: Clients, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("conserver:jobs", "x")
        client.set("conserver:job:x", "x")
    assert clients("read").get("/v1/jobs").status_code == 503
    assert clients("read").get("/v1/jobs/x").status_code == 503


def test_tokens_are_not_in_what_is_shown() -> None:
    assert all("text-" not in repr(token) for token in TOKENS.values())
