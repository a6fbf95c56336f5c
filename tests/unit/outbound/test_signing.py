"""Signatures of webhooks, checked by the library that receivers use."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from conserver.outbound import signing

OLD = "whsec_" + base64.b64encode(b"old" * 10).decode()
NEW = "whsec_" + base64.b64encode(b"new" * 10).decode()
BODY = '{"type": "job.completed", "data": {"text": "grüße"}}'.encode()


def headers(*secrets: str, body: bytes = BODY) -> dict[str, str]:
    stamp = str(int(time.time()))
    return {
        "webhook-id": "job.7",
        "webhook-timestamp": stamp,
        "webhook-signature": signing.signature(secrets, "job.7", stamp, body),
    }


def test_the_receivers_library_takes_it() -> None:
    assert Webhook(NEW).verify(BODY, headers(NEW))["type"] == "job.completed"


def test_while_secrets_are_exchanged_either_one_is_enough() -> None:
    both = headers(NEW, OLD)
    assert both["webhook-signature"].count("v1,") == 2
    for secret in (NEW, OLD):
        assert Webhook(secret).verify(BODY, both)


def test_other_bytes_and_other_secrets_are_refused() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(BODY.replace(b": ", b":"), headers(NEW))
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(BODY, headers(OLD))


def test_secrets_have_names(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text(f"# receivers\ncrm {NEW} {OLD}\n\nerp {OLD} # another\n")
    found = signing.secrets_of(NEW, str(file))
    assert found == {"": [NEW], "crm": [NEW, OLD], "erp": [OLD]}
    file.write_text(f"{OLD}\n")
    assert signing.secrets_of(NEW, str(file)) == {"": [OLD]}
    assert signing.secrets_of("", "") == {}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("crm", "one secret"),
        (f"crm {NEW} {NEW} {OLD}", "one secret"),
        ("crm hunter2", "begins with whsec_"),
        ("crm whsec_!!!", "not base64"),
        ("crm whsec_YWJj", "24 to 64 bytes, not 3"),
    ],
)
def test_a_faulty_file_is_named_by_its_line_and_not_quoted(
    line: str, what: str, tmp_path: Path
) -> None:
    file = tmp_path / "secrets"
    file.write_text("# receivers\n" + line)
    with pytest.raises(ValueError, match=r", line 2: ") as caught:
        signing.secrets_of("", str(file))
    assert what in str(caught.value)
    assert "hunter2" not in str(caught.value)
