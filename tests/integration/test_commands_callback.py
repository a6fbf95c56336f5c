"""`conserver submit --callback`: what is kept, what is refused, what is never shown."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from conserver.outbound import callback as callbacks
from conserver.queue import keys
from tests.command_line import Command
from tests.operators import vcon

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
HOOK = "https://crm.example.com/told?key=0123456789abcdef"
OLD = "https://b.example.com/?X-Amz-Date=20260102T030405Z&X-Amz-Expires=9&X-Amz-Signature=feedbeef"


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A vCon."""
    path = tmp_path / "a.json"
    path.write_bytes(vcon("u-a"))
    return str(path)


def submitted(conserver: Command, file: str, text: str) -> str:
    """The job that the command has made."""
    done = conserver("submit", file, "--callback", text, "--json", CONSERVER_WEBHOOK_SECRET=SECRET)
    assert done.returncode == 0, done.stderr
    assert b"0123456789abcdef" not in done.stdout + done.stderr
    assert b"no host is running" in done.stderr
    [item] = orjson.loads(done.stdout)["items"]
    return str(item["job"])


def test_an_address_gets_a_webhook(conserver: Command, server: Any, file: str) -> None:
    job = submitted(conserver, file, HOOK)
    found = callbacks.load(server.hget(keys.job(job), "callback"))
    assert (found.kind, found.url.get_secret_value()) == ("webhook", HOOK)
    assert server.hget(keys.job(job), "callback_on") == b"cancelled completed failed filtered"


def test_a_file_may_say_more(conserver: Command, server: Any, file: str, tmp_path: Path) -> None:
    given = {"url": HOOK, "kind": "put", "format": "vtt", "events": ["completed"]}
    (tmp_path / "callback.json").write_bytes(orjson.dumps(given))
    job = submitted(conserver, file, f"@{tmp_path / 'callback.json'}")
    found = callbacks.load(server.hget(keys.job(job), "callback"))
    assert (found.kind, found.result_format, found.events) == ("put", "vtt", ("completed",))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("ftp://example.com/?key=0123456789abcdef", b"url: must be an http or https URL"),
        ("@/nowhere/callback.json", b"cannot be read"),
        ('{"url": ', b"is not JSON"),
        ('{"url": "https://example.com/", "more": 1}', b"more: "),
        ('{"url": "https://example.com/", "key": "crm"}', b"no secret is named crm"),
        ('{"kind": "put", "url": "' + OLD + '"}', b"has expired at 2026-01-02T03:04:14"),
        ("http://127.0.0.1/", b"own networks"),
    ],
)
def test_what_can_never_arrive_is_refused(
    conserver: Command, server: Any, file: str, text: str, what: bytes
) -> None:
    done = conserver("submit", file, "--callback", text, CONSERVER_WEBHOOK_SECRET=SECRET)
    assert done.returncode == 2
    assert b"--callback" in done.stderr
    assert what in done.stderr
    assert b"Value error" not in done.stderr
    assert b"0123456789abcdef" not in done.stderr
    assert b"feedbeef" not in done.stderr
    assert not server.exists("inbox", "vcon:u-a")


def test_check_finds_a_secret_that_cannot_sign(conserver: Command, tmp_path: Path) -> None:
    assert conserver("check", CONSERVER_WEBHOOK_SECRET=SECRET).returncode == 0
    done = conserver("check", CONSERVER_WEBHOOK_SECRET="hunter2-hunter2")
    assert done.returncode == 78
    assert b"a secret begins with whsec_" in done.stdout + done.stderr
    assert b"hunter2" not in done.stdout + done.stderr
    file = tmp_path / "secrets"
    file.write_text("crm whsec_short\n")
    done = conserver("check", CONSERVER_WEBHOOK_SECRET="", CONSERVER_WEBHOOK_SECRET_FILE=str(file))
    assert done.returncode == 78
    assert b"secrets, line 1" in done.stdout + done.stderr
