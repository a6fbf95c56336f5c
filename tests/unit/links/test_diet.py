"""diet: what is taken off, where bodies go, and that none is lost on the way."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from pydantic import ValidationError

from conserver.errors import Rejected, Retry
from conserver.links import diet
from conserver.links.diet import Options, prepare
from conserver.outbound.faults import FailedAttemptError
from conserver.testing.http_server import Reply, serving
from conserver.testing.links import UUID, make_vcon, run_link
from conserver.vcon.document import Vcon, encode_body
from tests import vcons
from tests.helpers import free_port

AUDIO = b"RIFF\x00\xff audio"
RECORDING = {
    "type": "recording",
    "parties": [0, 1],
    "mediatype": "audio/x-wav",
    "body": encode_body(AUDIO),
    "encoding": "base64url",
}
HASH = f"sha512-{encode_body(hashlib.sha512(AUDIO).digest())}"
BARE = {"type": "recording", "parties": [0, 1], "mediatype": "audio/x-wav"}


def options(**given: Any) -> Options:
    return Options.model_validate(given)


def failure(given: Vcon, settings: Options) -> Exception | None:
    """What the link has raised."""
    try:
        result = run_link(diet, given, settings)
    except FailedAttemptError as error:
        return error
    return result.retry or result.rejected


def test_bodies_are_removed_where_no_place_is_named() -> None:
    given = make_vcon(
        dialog=[RECORDING, None, {"type": "incomplete"}, {"type": "text", "body": "x"}]
    )
    run_link(diet, given, options(remove_dialog_body=True))
    assert given.dialogs == [BARE, None, {"type": "incomplete"}, {"type": "text"}]


def test_nothing_named_changes_nothing() -> None:
    for shape in vcons.SHAPES:
        given = Vcon.parse(vcons.raw(shape))
        if given.form == "unsigned":
            assert not run_link(diet, given, options()).changed


def test_bodies_go_to_a_service_and_leave_url_and_hash() -> None:
    reply = Reply(200, orjson.dumps({"url": "https://media.example.com/7"}))
    given = make_vcon(dialog=[RECORDING])
    with serving(reply) as server:
        settings = options(remove_dialog_body=True, post_media_to_url=server.url + "/put")
        run_link(diet, given, settings)
        run_link(diet, given, settings)
    assert len(server.requests) == 1
    assert server.requests[0].json == {
        "content": RECORDING["body"],
        "vcon_uuid": UUID,
        "dialog_id": "0",
        "encoding": "base64url",
        "mediatype": "audio/x-wav",
    }
    elsewhere = {"url": "https://media.example.com/7", "content_hash": HASH}
    assert given.dialogs == [{**BARE, **elsewhere}]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(503, headers={"retry-after": "60"}), Retry),
        (Reply(403), Retry),
        (Reply(413), Rejected),
        (Reply(200, b"{}"), FailedAttemptError),
        (Reply(200, b"[]"), FailedAttemptError),
        (Reply(200, b"thanks"), FailedAttemptError),
        (Reply(200, b'{"url": null}'), FailedAttemptError),
    ],
)
def test_a_body_is_not_lost_to_a_failed_upload(reply: Reply, kind: type[Exception]) -> None:
    given = make_vcon(dialog=[RECORDING])
    with serving(reply) as server:
        settings = options(remove_dialog_body=True, post_media_to_url=server.url)
        assert isinstance(failure(given, settings), kind)
    assert not given.changed


def bucket(url: str, **others: Any) -> Options:
    return options(
        remove_dialog_body=True,
        s3_bucket="media",
        s3_path="calls/",
        s3_endpoint_url=url,
        aws_access_key_id="id",
        aws_secret_access_key="hidden",
        attempts=1,
        **others,
    )


def test_bodies_go_to_s3_decoded_under_a_key_made_of_them() -> None:
    with serving(Reply(200, b"")) as server:
        given = run_link(diet, make_vcon(dialog=[RECORDING]), bucket(server.url)).vcon
        again = run_link(diet, make_vcon(dialog=[RECORDING]), bucket(server.url)).vcon
    first, second = server.requests
    name = f"{UUID}/0_{hashlib.sha512(AUDIO).hexdigest()[:16]}"
    assert first.path.startswith(f"/media/calls/{name}")
    assert first.path == second.path
    assert AUDIO in first.body or base64.b64encode(AUDIO) in first.body
    assert first.headers["content-type"] == "audio/x-wav"
    url = f"{server.url}{first.path}"
    assert given.dialogs == again.dialogs == [{**BARE, "url": url, "content_hash": HASH}]


def test_an_s3_url_can_be_presigned() -> None:
    with serving(Reply(200, b"")) as server:
        settings = bucket(server.url, presigned_url_expiration=60)
        given = run_link(diet, make_vcon(dialog=[RECORDING]), settings).vcon
    parts = urlsplit(given.dialogs[0]["url"])
    assert parts.path == server.requests[0].path
    assert "Expires" in parts.query
    assert "hidden" not in parts.query


def test_s3_that_is_away_keeps_the_body() -> None:
    given = make_vcon(dialog=[RECORDING])
    result = run_link(diet, given, bucket(f"http://127.0.0.1:{free_port()}"))
    assert "did not take the body of dialog 0" in str(result.retry)
    assert not given.changed
    with serving(Reply(403, b"<Error><Code>AccessDenied</Code></Error>")) as server:
        given = make_vcon(dialog=[RECORDING])
        assert "AccessDenied" in str(run_link(diet, given, bucket(server.url)).retry)
        assert not given.changed


def test_analyses_are_removed() -> None:
    given = run_link(diet, make_vcon(analysis=[{"type": "a"}]), options(remove_analysis=True)).vcon
    assert "analysis" not in given.view
    assert not run_link(diet, make_vcon(), options(remove_analysis=True)).changed


def test_attachments_are_removed_by_any_name_and_references_follow() -> None:
    given = make_vcon(
        attachments=[
            {"mediatype": "image/jpeg", "body": "x"},
            {"purpose": "note"},
            {"mimetype": "IMAGE/PNG"},
            {"type": "strolid_dealer"},
            None,
        ],
        analysis=[{"type": "a", "attachment": 1}, {"type": "b", "attachment": 2}],
    )
    unwanted = ["image/jpeg", "image/png", "Strolid_Dealer"]
    run_link(diet, given, options(remove_attachment_types=unwanted))
    assert given.attachments == [{"purpose": "note"}, None]
    assert given.analysis == [{"type": "a", "attachment": 0}, {"type": "b"}]


def test_system_prompts_are_removed_at_any_depth() -> None:
    deep: Any = {"system_prompt": "x", "kept": 1}
    for _ in range(100):
        deep = [{"inner": deep}]
    given = make_vcon(system_prompt="x", analysis=[{"body": {"system_prompt": {}, "b": deep}}])
    run_link(diet, given, options(remove_system_prompts=True))
    assert b"system_prompt" not in given.dump()
    assert b"kept" in given.dump()


def test_wrong_options_are_refused() -> None:
    for wrong in (
        {"remove_body": True},
        {"post_media_to_url": "x"},
        {"presigned_url_expiration": 0},
    ):
        with pytest.raises(ValidationError):
            options(**wrong)


def test_secrets_are_not_shown_and_prepare_opens_nothing() -> None:
    with serving() as server:
        settings = bucket(server.url)
        assert "hidden" not in repr(settings)
        prepare(settings)
        prepare(options(post_media_to_url=server.url))
        assert server.connections == 0
