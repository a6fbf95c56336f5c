"""Who may use vcon-server's routes: tokens, roles, lists, keys of partners, and nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from conserver.http.api.auth import FAILURES_MAX
from conserver.operations import tokens
from tests.api.conftest import Api
from tests.api.vcon_server import HEADER, UUID, client, example
from tests.queues import Queue

CALLS = {"ingress_list": "calls"}
ROUTES: dict[str, tuple[str, dict[str, Any], str]] = {
    "GET /vcon": ("read", {}, ""),
    f"GET /vcon/{UUID}": ("read", {}, ""),
    "GET /vcons": ("read", {"vcon_uuids": UUID}, ""),
    "GET /vcons/search": ("read", {"tel": "+1"}, ""),
    "GET /vcon/count": ("read", {"egress_list": "out"}, ""),
    "GET /dlq": ("read", CALLS, ""),
    "GET /config": ("read", {}, ""),
    "POST /vcon": ("submit", {}, json.dumps(example())),
    "POST /vcon/ingress": ("submit", CALLS, "[]"),
    "GET /vcon/egress": ("operate", {"egress_list": "out"}, ""),
    "POST /dlq/reprocess": ("operate", CALLS, ""),
    "GET /index_vcons": ("operate", {}, ""),
    f"DELETE /vcon/{UUID}": ("admin", {}, ""),
    "POST /config": ("admin", {}, "{}"),
}
"""Route -> the role that it needs, its query and its body."""

IMPLIED = {
    "read": {"read"},
    "submit": {"submit"},
    "operate": {"operate", "read"},
    "admin": {"admin", "operate", "read", "submit"},
}
OPEN = ("GET /version", "GET /stats/queue?list_name=calls")
BAD = [{}, {HEADER: ""}, {HEADER: "wrong"}, {HEADER: "text-admin x"}, {HEADER: "Bearer"}]


def ask(http: httpx.Client, route: str, **options: Any) -> httpx.Response:
    method, path = route.split()
    return http.request(method, path, **options)


@pytest.mark.parametrize("headers", BAD, ids=["none", "empty", "wrong", "more", "scheme"])
def test_nobody_gets_in_without_a_token(api: Api, headers: dict[str, str]) -> None:
    with client(api, "") as http:
        for route, (_, query, body) in ROUTES.items():
            answer = ask(http, route, params=query, content=body, headers=headers)
            assert (route, answer.status_code) == (route, 403)
            assert answer.json() == {"detail": "Invalid API Key"}
            assert "www-authenticate" not in answer.headers


def test_the_token_is_looked_at_before_anything_else(api: Api) -> None:
    with client(api, "") as http:
        for route in ROUTES:
            answer = ask(http, route, content=b"{")
            assert (route, answer.status_code) == (route, 403)


def test_what_is_open_to_all(api: Api) -> None:
    with client(api, "") as http:
        for route in OPEN:
            assert ask(http, route).status_code == 200
            assert ask(http, route, headers={HEADER: "wrong"}).status_code == 200


@pytest.mark.parametrize("role", IMPLIED)
def test_each_route_needs_its_role(api: Api, role: str) -> None:
    with client(api, role) as http:
        for route, (needed, query, body) in ROUTES.items():
            answer = ask(http, route, params=query, content=body)
            allowed = needed in IMPLIED[role]
            assert (route, answer.status_code == 403) == (route, not allowed)
            if not allowed:
                assert f"has not the role `{needed}`" in answer.json()["detail"]


def test_a_token_that_is_restricted_to_lists(api: Api) -> None:
    with client(api, "narrow") as http:
        for route in ("POST /vcon/ingress", "GET /dlq", "POST /dlq/reprocess"):
            answer = ask(http, route, params=CALLS, content="[]")
            assert (answer.status_code, "`calls`" in answer.text) == (403, True)
        answer = http.post("/vcon", params={"ingress_lists": ["other", "calls"]}, json=example())
        assert answer.status_code == 403
        answer = http.post("/vcon", params={"ingress_lists": "other"}, json=example())
        assert answer.status_code == 201


def test_a_guess_at_speed_is_held_back(api: Api) -> None:
    with client(api, "") as http:
        for _ in range(FAILURES_MAX):
            assert http.get("/vcon", headers={HEADER: "guess"}).status_code == 403
        answer = http.get("/vcon", headers={HEADER: "guess"})
        assert (answer.status_code, "retry-after" in answer.headers) == (429, True)
        assert http.get("/vcon", headers={HEADER: "text-read"}).status_code == 200


def test_one_token_may_be_given_by_the_environment_and_more_in_a_file(
    serve: Callable[..., Api], tmp_path: Path
) -> None:
    file = tmp_path / "tokens.txt"
    file.write_text("first-of-the-file\n\n  second-of-the-file  \n")
    api = serve()
    settings = api.settings.model_copy(
        update={"api_token_file": str(file), "api_token": type(api.settings.api_token)("the-one")}
    )
    api.context.keyring = tokens.keyring_of(settings)
    for text, status in (
        ("the-one", 200),
        ("first-of-the-file", 200),
        ("second-of-the-file", 200),
        ("first-of-the-file\tsecond-of-the-file", 403),
        ("text-admin", 403),
    ):
        assert (
            httpx.get(f"{api.url}/vcon", headers={HEADER: text}, timeout=60).status_code == status
        )


def test_the_header_may_be_authorization_with_a_whole_value(serve: Callable[..., Api]) -> None:
    api = serve(CONSERVER_HEADER_NAME="Authorization", CONSERVER_API_TOKEN="Bearer of-good-news")
    api.context.keyring = tokens.keyring_of(api.settings)
    for value, status in (
        ("Bearer of-good-news", 200),
        ("of-good-news", 403),
        ("Bearer of", 403),
    ):
        answer = httpx.get(f"{api.url}/vcon", headers={"Authorization": value}, timeout=60)
        assert answer.status_code == status


def test_without_any_token_only_this_machine_gets_in(serve: Callable[..., Api]) -> None:
    api = serve(open_to_all=True)
    with client(api, "") as http:
        assert http.get("/vcon").status_code == 200
        assert http.get("/vcon", headers={"Host": "example.com"}).status_code == 421


def test_a_proxy_may_be_trusted_to_ask(serve: Callable[..., Api]) -> None:
    api = serve(open_to_all=True, CONSERVER_API_OPEN="1", CONSERVER_API_HOST="0.0.0.0")
    assert api.host == "0.0.0.0"
    with client(api, "") as http:
        assert http.get("/vcon", headers={"Host": "example.com"}).status_code == 200


# ---- partners ------------------------------------------------------------------------------------

PARTNERS = {
    "calls": "key-of-calls",
    "other": ["key-one", "key-two"],
    "nowhere": "key-of-nowhere",
    "empty": [],
}
PATH = "/vcon/external-ingress"


@pytest.fixture
def partners(serve: Callable[..., Api]) -> Api:
    """An API with keys of partners, and a list that has none."""
    chains = {"third": {"ingress_lists": ["third", "empty"]}}
    return serve(config={"ingress_auth": PARTNERS, "chains": chains})


@pytest.mark.parametrize(
    ("name", "key", "detail"),
    [
        ("calls", None, "API Key required"),
        ("calls", "", "API Key required"),
        ("calls", "wrong", "Invalid API Key for ingress list 'calls'"),
        ("calls", "key-one", "Invalid API Key for ingress list 'calls'"),
        ("calls", "text-admin", "Invalid API Key for ingress list 'calls'"),
        ("other", "key-of-calls", "Invalid API Key for ingress list 'other'"),
        ("other", "['key-one', 'key-two']", "Invalid API Key for ingress list 'other'"),
        ("third", "key-of-calls", "Ingress list 'third' not configured"),
        ("nowhere", "key-of-nowhere", "Ingress list 'nowhere' not configured"),
        ("", "key-of-calls", "Ingress list '' not configured"),
        ("empty", "key", "Invalid configuration for ingress list 'empty'"),
    ],
)
def test_what_a_key_of_a_partner_does_not_open(
    partners: Api, queue: Queue, name: str, key: str | None, detail: str
) -> None:
    headers = {} if key is None else {HEADER: key}
    with client(partners, "") as http:
        answer = http.post(PATH, params={"ingress_list": name}, json=example(), headers=headers)
        assert (answer.status_code, answer.json()) == (403, {"detail": detail})
        body = http.post(PATH, params={"ingress_list": name}, content=b"{", headers=headers)
        assert body.json() == {"detail": detail}, "a body is not looked at before the key"
    assert not queue.everything()


@pytest.mark.parametrize(
    ("name", "key"), [("calls", "key-of-calls"), ("other", "key-one"), ("other", "key-two")]
)
def test_a_partner_pushes_onto_its_list_and_does_nothing_else(
    partners: Api, queue: Queue, name: str, key: str
) -> None:
    with client(partners, "") as http:
        http.headers[HEADER] = key
        answer = http.post(PATH, params={"ingress_list": name}, json=example())
        assert (answer.status_code, answer.content) == (204, b"")
        assert http.post(PATH, params={"ingress_list": name}, content=b"{").status_code == 422
        for route, (_, query, body) in ROUTES.items():
            assert ask(http, route, params=query, content=body).status_code == 403
    assert queue.waiting(name) == [UUID.encode()]
    assert json.loads(queue.client.get(f"vcon:{UUID}")) == example()


def test_a_guess_of_a_partners_key_is_held_back(partners: Api) -> None:
    with client(partners, "") as http:
        statuses = [
            http.post(PATH, params=CALLS, headers={HEADER: f"guess-{n}"}).status_code
            for n in range(FAILURES_MAX + 1)
        ]
    assert statuses == [403] * FAILURES_MAX + [429]


def test_a_partner_has_the_rate_of_a_token(serve: Callable[..., Api]) -> None:
    api = serve(config={"ingress_auth": PARTNERS}, CONSERVER_API_RATE_PER_MINUTE="2")
    with client(api, "") as http:
        answers = [
            http.post(PATH, params=CALLS, json=example(), headers={HEADER: "key-of-calls"})
            for _ in range(3)
        ]
    assert [one.status_code for one in answers] == [204, 204, 429]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 30


def test_keys_of_partners_are_never_shown(partners: Api) -> None:
    with client(partners) as http:
        for path in ("/config", "/v1/config"):
            assert "key-" not in http.get(path).text
        shown = http.get("/config").json()["ingress_auth"]
    assert shown == {"calls": "***", "other": ["***", "***"], "nowhere": "***", "empty": []}
