"""vcon-server's routes with whatever may come: never a 500, always the form of its errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.api.conftest import Api
from tests.api.vcon_server import UUID, client, example

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
MEMBERS = st.sampled_from(
    "vcon uuid created_at subject redacted appended group parties dialog analysis attachments tel "
    "mailto name duration url mimetype alg start type body encoding payload ciphertext".split()
)
DOCUMENTS = st.dictionaries(MEMBERS, VALUES, max_size=6).map(lambda some: {**example(), **some})
NAMES = st.sampled_from(["calls", "other", "out", "DLQ:calls", "vcons", ""]) | st.text(max_size=12)
UUIDS = st.just(UUID) | st.text(max_size=40) | st.uuids().map(str)
NUMBERS = st.integers(-3, 30).map(str) | st.text(max_size=6)
ROUTES = [
    ("GET", "/version"), ("GET", "/stats/queue"), ("GET", "/vcon"), ("POST", "/vcon"),
    ("GET", "/vcons"), ("GET", "/vcons/search"), ("POST", "/vcon/ingress"),
    ("GET", "/vcon/egress"), ("GET", "/vcon/count"), ("POST", "/vcon/external-ingress"),
    ("GET", "/config"), ("POST", "/config"), ("GET", "/dlq"), ("POST", "/dlq/reprocess"),
    ("GET", "/index_vcons"),
]  # fmt: skip
QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "list_name": NAMES,
        "ingress_list": NAMES,
        "egress_list": NAMES,
        "ingress_lists": st.lists(NAMES, max_size=3),
        "vcon_uuids": st.lists(UUIDS, max_size=3),
        "page": NUMBERS,
        "size": NUMBERS,
        "limit": NUMBERS,
        "offset": NUMBERS,
        "count": NUMBERS,
        "since": st.datetimes().map(str) | st.text(max_size=12),
        "until": st.datetimes().map(str) | st.text(max_size=12),
        "tel": st.text(max_size=12),
        "name": st.text(max_size=12),
    },
)
BODIES = (
    DOCUMENTS.map(json.dumps).map(str.encode)
    | VALUES.map(json.dumps).map(str.encode)
    | st.lists(UUIDS, max_size=3).map(json.dumps).map(str.encode)
    | st.binary(max_size=30)
)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_that_comes_is_a_fault_of_ours(serve: Callable[..., Api]) -> None:
    api = serve(config={"ingress_auth": {"calls": "key"}})
    with client(api) as http:

        @hypothesis.given(st.sampled_from(ROUTES), UUIDS, st.booleans(), QUERIES, BODIES)
        @hypothesis.settings(
            max_examples=600,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        def check(
            route: tuple[str, str], uuid: str, one: bool, query: dict[str, Any], body: bytes
        ) -> None:
            method, path = ("DELETE" if len(body) % 2 else "GET", "/vcon/x") if one else route
            url = api.url + path
            if one:
                url = api.url + "/vcon/" + "".join(f"%{byte:02x}" for byte in uuid.encode())
            answer = http.request(method, url, params=query, content=body)
            assert answer.status_code < 500, answer.text
            if answer.status_code >= 400:
                assert answer.json()["detail"]
            elif method == "POST" and path == "/vcon":
                assert answer.content == body

        check()
