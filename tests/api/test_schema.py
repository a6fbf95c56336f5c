"""The OpenAPI description, against the true server: what it leaves out must not happen.

schemathesis makes requests from the description, good and bad ones. None may end with a status code
of 500 or more (but for the documented 502, 503 and 507), or with one that is not documented. The
number of examples of each operation is bounded, so that all take about a minute.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import hypothesis
import pytest

from tests.api.conftest import Api
from tests.api.hearing import hearing
from tests.api.test_health import beating

EXAMPLES = 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_is_not_described_does_not_happen(serve: Callable[..., Api], redis_url: str) -> None:
    # OpenAI's routes wait for the end of their jobs, and /health is 503 without a host.
    with hearing(redis_url, "calls", "other") as worker:
        beating(worker.consumer.queue, lease_s="3600")
        check_all(serve())


def check_all(api: Api) -> None:
    """Every operation, with requests made from its description."""
    # Here, because only the process that runs this test needs it.
    import schemathesis
    from schemathesis import checks
    from schemathesis.core.result import Ok
    from schemathesis.specs.openapi import checks as conformance

    asked = [
        checks.not_a_server_error,
        conformance.status_code_conformance,
        conformance.content_type_conformance,
        conformance.response_schema_conformance,
    ]
    described = httpx.get(f"{api.url}/openapi.json", timeout=120).json()
    schema = schemathesis.openapi.from_dict(described)
    headers = {"Authorization": "Bearer text-admin"}
    found: list[str] = []
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()

        @hypothesis.given(case=operation.as_strategy())
        @hypothesis.settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            # Not shrunk: an example that waits for ever would be tried for ever.
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        def check(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(base_url=api.url, headers=headers, checks=asked, timeout=120)

        try:
            check()
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - all are gathered
            found.append(f"{operation.label}: {type(error).__name__}: {error}"[:2000])
    assert not found, "\n\n".join(found)


def test_every_error_is_described_with_its_form(api: Api) -> None:
    described = httpx.get(f"{api.url}/openapi.json", timeout=120).json()
    wrong = [
        (path, method, code)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
        for code, answer in operation["responses"].items()
        if code >= "400"
        and not path.startswith(("/livez", "/readyz", "/health"))
        and answer["content"].keys() != {_form(path)}
    ]
    assert not wrong, json.dumps(wrong, indent=1)


def _form(path: str) -> str:
    openai = path.startswith(("/v1/audio", "/v1/models"))
    return "application/json" if openai else "application/problem+json"
