"""storage.elasticsearch_fields: what is indexed of a vCon."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from storage.elasticsearch_fields import source
from tests import vcons
from tests.contract.places import document


def fields(**members: Any) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(source(document(**members), 1 << 20, 1 << 20))
    return found


@pytest.mark.parametrize("name", vcons.TRANSCRIPTS)
def test_transcripts_of_every_maker_are_indexed(name: str) -> None:
    """text-3."""
    body = vcons.TRANSCRIPTS[name]([("Ann", "the zebra"), ("Ben", "ran away")])
    text = body if isinstance(body, str) else orjson.dumps(body).decode()
    for part in ({"body": body}, {"body": text}, {"body": text, "encoding": "none"}):
        found = fields(analysis=[{"type": "wtf_transcription", "dialog": 0, **part}])
        assert found["transcript"].split() == ["the", "zebra", "ran", "away"]


def test_tags_and_attached_transcripts_are_indexed_whatever_their_label() -> None:
    wtf = {"purpose": "wtf_transcription", "body": {"transcript": {"text": "caption"}}}
    tags = [{"type": "tags", "body": '["a:b"]'}, {"purpose": "tags", "body": {"c": "d"}}]
    found = fields(attachments=[wtf, *tags])
    assert found["tags"] == ["a:b", "c:d"]
    assert found["transcript"] == "caption"


def test_a_transcript_in_two_formats_is_indexed_once() -> None:
    turns = [("Ann", "hello"), ("Ben", "hi")]
    analysis = [
        {"type": "transcript", "dialog": 0,
         "body": vcons.TRANSCRIPTS["deepgram, as vcon-server's link keeps it"](turns)},
        {"type": "wtf_transcription", "dialog": [0], "body": vcons.TRANSCRIPTS["wtf"](turns)},
    ]  # fmt: skip
    assert fields(analysis=analysis)["transcript"] == "hello hi"


def test_an_unknown_duration_is_not_summed() -> None:
    """dur-1: -1 stands for unknown."""
    assert "duration_s" not in fields(dialog=[{"duration": -1}])
    assert fields(dialog=[{"duration": -1}, {"duration": 2.5}])["duration_s"] == 2.5
