"""The transcribe link with this very API as its server: one Conserver hears for another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conserver.errors import Retry
from conserver.links.transcribe import Options, run
from conserver.vcon.document import Vcon, encode_body
from tests.api.conftest import Api
from tests.api.hearing import hearing
from tests.unit.links.stage import Context
from tests.unit.media.transcription.sounds import tone, wav


def options(api: Api, token: str = "text-submit", **members: Any) -> Options:
    server = {"base_url": f"{api.url}/v1", "api_key": token}
    return Options.model_validate(
        {"model": "whisper-1", "server": server, "vad": False, "language": "en", **members}
    )


def call() -> Vcon:
    """Two channels, each with a tone of its own."""
    sound = wav(tone(440, 4), tone(900, 4))
    dialog = {
        "type": "recording", "parties": [0, 1], "mediatype": "audio/wav",
        "encoding": "base64url", "body": encode_body(sound),
    }  # fmt: skip
    people = [{"name": "Ada"}, {"name": "Ben"}]
    vcon = {"uuid": "0198e2f0-0000-8000-8000-00000000000f", "parties": people, "dialog": [dialog]}
    return Vcon.parse(json.dumps(vcon).encode())


def test_another_conserver_transcribes_channel_by_channel(api: Api, redis_url: str) -> None:
    vcon = call()
    with hearing(redis_url) as worker:
        run(vcon, options(api, prompt="Özdemir"), Context())
    transcript, wtf = vcon.analysis
    assert transcript["body"]["paragraphs"]["transcript"] == (
        "Ada: Hello.\n\nBen: Hello.\n\nAda: Goodbye <you>.\n\nBen: Goodbye <you>."
    )
    assert transcript["product"] == f"{api.host}:{api.port} (whisper-1)"
    assert transcript["body"]["detected_language"] == "en"
    assert [word["text"] for word in wtf["body"]["words"]][:2] == ["Hello.", "Hello."]
    scores = wtf["body"]["extensions"]["openai"]["segments"]
    assert [one["avg_logprob"] for one in scores] == [-0.375] * 4
    assert len(worker.taken) == 2
    for taken in worker.taken:
        (wish,) = taken["attachments"]
        asked = json.loads(wish["body"])
        assert (asked["language"], asked["prompt"], asked["words"]) == ("en", "Özdemir", True)


@pytest.mark.parametrize(
    ("token", "model", "why"),
    [("wrong", "whisper-1", "HTTP 401"), ("text-submit", "nobody", "HTTP 404")],
)
def test_what_is_wrong_for_every_call_is_tried_again_later(
    api: Api, token: str, model: str, why: str
) -> None:
    vcon = call()
    with pytest.raises(Retry, match=f"{why}.*the same for every vCon") as caught:
        run(vcon, options(api, token, model=model), Context())
    assert token not in str(caught.value)
    assert vcon.analysis == []
