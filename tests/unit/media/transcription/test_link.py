"""The transcribe link with an engine that only pretends: what it takes, skips and writes."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from conserver.errors import Cancelled, Rejected, Retry
from conserver.links.transcribe import COSTLY, Options, transcribe
from conserver.media.transcription.engine import (
    CallHeard,
    Following,
    Heard,
    Listening,
    Model,
    Segment,
)
from conserver.media.transcription.request import Request
from conserver.outbound.faults import FailedAttemptError
from conserver.vcon.document import Vcon, encode_body
from tests.unit.links.stage import Context
from tests.unit.media.speech.real import channels_of
from tests.unit.media.transcription.sounds import FakeEngine, tone, wav
from tests.unit.media.transcription.test_bleed import heard_faintly, mixed

MONO = wav(tone())
STEREO = wav(tone(440), tone(900))


def recording(content: bytes = MONO, **members: Any) -> dict[str, Any]:
    dialog = {
        "type": "recording",
        "start": "2026-11-25T08:00:00Z",
        "parties": [0, 1],
        "mediatype": "audio/wav",
        "encoding": "base64url",
        "body": encode_body(content),
    }
    return {**dialog, **members}


def vcon_of(*dialogs: dict[str, Any], **members: Any) -> Vcon:
    document = {
        "uuid": "0198e2f0-0000-8000-8000-000000000001",
        "parties": [{"name": "Ada"}, {"name": "Ben"}],
        "dialog": list(dialogs),
        **members,
    }
    return Vcon.parse(json.dumps(document).encode())


def run(
    vcon: Vcon,
    engine: FakeEngine | None = None,
    context: Context | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Run the link and give what it added."""
    before = len(vcon.analysis)
    chosen = Options(model="tiny", **options)
    engine = engine or FakeEngine()
    context = context or Context()
    assert transcribe(vcon, chosen, context, engine.open) is vcon
    assert (context.pushed, context.expiries) == ([], [])
    return vcon.analysis[before:]


def sha512(content: bytes) -> str:
    return "sha512-" + encode_body(hashlib.sha512(content).digest())


def test_a_recording_gets_both_analyses_and_the_extension() -> None:
    vcon = vcon_of(recording())
    transcript, wtf = run(vcon, FakeEngine(["hello", "goodbye"]))
    assert (transcript["type"], transcript["dialog"]) == ("transcript", 0)
    assert (wtf["type"], wtf["dialog"]) == ("wtf_transcription", 0)
    assert transcript["body"]["transcript"] == "hello goodbye"
    assert vcon.view["extensions"] == ["wtf_transcription"]
    assert json.loads(vcon.dump())["analysis"] == [transcript, wtf]
    assert COSTLY


@pytest.mark.parametrize("kind", ["transcript", "wtf_transcription"])
def test_only_the_wanted_analyses_are_written(kind: str) -> None:
    vcon = vcon_of(recording())
    (analysis,) = run(vcon, analyses=[kind])
    assert analysis["type"] == kind
    assert ("extensions" in vcon.view) == (kind == "wtf_transcription")


def test_each_channel_is_heard_and_given_to_its_party() -> None:
    engine = FakeEngine()
    transcript, wtf = run(vcon_of(recording(STEREO)), engine)
    assert len(engine.listened) == 2
    assert transcript["body"]["paragraphs"]["transcript"] == "Ada: hello\n\nBen: hello"
    assert [segment["speaker"] for segment in wtf["body"]["segments"]] == [0, 1]


def test_dual_mono_is_heard_once_and_names_nobody() -> None:
    engine = FakeEngine()
    transcript, wtf = run(vcon_of(recording(wav(tone(), tone()))), engine)
    assert len(engine.listened) == 1
    assert transcript["body"]["paragraphs"]["transcript"] == "hello"
    assert "speakers" not in wtf["body"]
    assert wtf["body"]["metadata"]["audio"]["channels"] == 2


class Diarist(FakeEngine):
    """Tells voices apart."""

    def transcribe(
        self, channels: Sequence[Any], listening: Listening, following: Following
    ) -> CallHeard:
        said = [("A", "hello"), ("B", "hi"), ("B", "how are you"), ("A", "fine")]
        segments = tuple(
            Segment(second, second + 0.9, text, speaker=voice)
            for second, (voice, text) in enumerate(said)
        )
        return CallHeard(self.identity, tuple(Heard(segments, "en", 1.0) for _ in channels))


def test_voices_that_an_engine_tells_apart_name_who_speaks_on_a_mono_call() -> None:
    transcript, wtf = run(vcon_of(recording(parties=[0, 1])), Diarist())
    assert transcript["body"]["paragraphs"]["transcript"] == (
        "A: hello\n\nB: hi how are you\n\nA: fine"
    )
    assert [segment["speaker"] for segment in wtf["body"]["segments"]] == ["A", "B", "B", "A"]
    assert sorted(wtf["body"]["speakers"]) == ["A", "B"]


def test_the_party_of_a_channel_is_believed_before_the_voices_of_an_engine() -> None:
    transcript, _ = run(vcon_of(recording(parties=[1])), Diarist())
    said = transcript["body"]["paragraphs"]["transcript"]
    assert said == "Ben: hello hi how are you fine"


@pytest.mark.parametrize(("bleed", "told"), [("silence", 1), ("keep", 0)])
def test_what_one_side_hears_of_the_other_is_told(bleed: str, told: int) -> None:
    left, right = channels_of("speech/order.wav")
    sound = wav(left, mixed(right, heard_faintly(left, -20)), rate_hz=16000)
    _, wtf = run(vcon_of(recording(sound)), bleed=bleed)
    warnings = wtf["body"]["quality"]["processing_warnings"]
    assert len(warnings) == told
    assert all("channel 1 hears channel 0 at -2" in warning for warning in warnings)


def test_every_dialog_is_checkpointed_by_itself() -> None:
    context = Context()
    added = run(vcon_of(recording(), {"type": "text", "body": "hi"}, recording()), context=context)
    assert [analysis["dialog"] for analysis in added] == [0, 0, 2, 2]
    assert context.checkpoints == 2


@pytest.mark.parametrize(
    "body",
    [
        base64.urlsafe_b64encode(MONO).decode(),
        base64.urlsafe_b64encode(MONO).decode().rstrip("="),
        base64.b64encode(MONO).decode(),
        base64.encodebytes(MONO).decode(),
    ],
    ids=["padded", "unpadded", "common alphabet", "with line breaks"],
)
def test_all_base64_spellings_are_read(body: str) -> None:
    assert len(run(vcon_of(recording(body=body)))) == 2


@pytest.mark.parametrize(
    "dialog",
    [
        recording(mediatype=None, mimetype="audio/wav"),
        recording(mediatype=None),
        recording(encoding=None),
        recording(encoding="base64"),
        recording(type="audio"),
        recording(type=None),
        recording(duration=None),
    ],
    ids=["mimetype", "no media type", "no encoding", "base64", "type audio", "no type", "duration"],
)
def test_old_and_sloppy_spellings_of_a_recording_are_read(dialog: dict[str, Any]) -> None:
    given = {name: value for name, value in dialog.items() if value is not None}
    assert len(run(vcon_of(given))) == 2


@pytest.mark.parametrize(
    "dialog",
    [
        {"type": "text", "mediatype": "text/plain", "body": "hello", "encoding": "none"},
        {"type": "transfer", "transferor": 0},
        {"type": "incomplete", "disposition": "no-answer"},
        {"type": "recording-set", "recordings": [0], "mediatype": "audio/wav"},
        {"type": "recording", "mediatype": "audio/wav"},
        {},
    ],
    ids=["text", "transfer", "incomplete", "recording-set", "no content", "nothing"],
)
def test_what_cannot_be_heard_is_skipped_and_no_model_is_loaded(dialog: dict[str, Any]) -> None:
    engine, context = FakeEngine(), Context()
    vcon = vcon_of(dialog)
    assert run(vcon, engine, context) == []
    assert engine.opened == []
    assert context.checkpoints == 0
    assert not vcon.changed
    level = "info" if dialog.get("type") == "recording" else "debug"
    assert [line[:2] for line in context.log.lines] == [(level, "dialogs_skipped")]


@pytest.mark.parametrize("duration", [-1, -30, -0.5])
def test_an_unknown_duration_is_no_short_one(duration: float) -> None:
    """dur-1: producers write -1 for what they do not know."""
    assert len(run(vcon_of(recording(duration=duration)), min_duration_s=0.1)) == 2


def test_a_recording_of_no_bytes_is_unusable_and_not_passed_over() -> None:
    """empty-2: told in the log, and rejected unless the option says otherwise."""
    context = Context()
    with pytest.raises(Rejected, match=r"^dialog 0: the recording is empty"):
        run(vcon_of(recording(body="")), context=context)
    assert run(vcon_of(recording(body="")), context=context, on_unusable="skip") == []
    assert [line[:2] for line in context.log.lines] == [("warning", "dialog_unusable")] * 2


@pytest.mark.parametrize("kind", ["transcript", "transcription", "wtf_transcription"])
@pytest.mark.parametrize("dialog", [0, [0], [1, 0]])
def test_a_dialog_that_has_a_transcript_is_skipped(kind: str, dialog: int | list[int]) -> None:
    engine = FakeEngine()
    vcon = vcon_of(recording(), analysis=[{"type": kind, "dialog": dialog, "vendor": "other"}])
    assert run(vcon, engine) == []
    assert engine.opened == []


def test_running_again_adds_nothing() -> None:
    vcon = vcon_of(recording(), recording())
    assert len(run(vcon)) == 4
    again = Vcon.parse(vcon.dump())
    assert run(again) == []
    assert not again.changed


def test_another_dialogs_transcript_and_other_analyses_do_not_count() -> None:
    analysis = [{"type": "transcript", "dialog": 1}, {"type": "summary", "dialog": 0}, "junk", None]
    assert len(run(vcon_of(recording(), analysis=analysis))) == 2


def test_signed_and_encrypted_vcons_pass_untouched() -> None:
    raw = b'{"payload":"e30","signatures":[{"header":{"uuid":"u1"}}]}'
    vcon = Vcon.parse(raw)
    assert run(vcon) == []
    assert vcon.dump() == raw


def test_short_recordings_are_skipped_by_what_they_say_and_by_what_they_are() -> None:
    engine = FakeEngine()
    said, lying = recording(duration=0.5), recording(duration=100)
    assert run(vcon_of(said, lying), engine, min_duration_s=5) == []
    assert engine.opened == []


@pytest.mark.parametrize("hashes", [sha512(MONO), [sha512(MONO), "md4711-abc"]])
def test_a_right_content_hash_passes(hashes: Any) -> None:
    assert len(run(vcon_of(recording(content_hash=hashes)))) == 2


def test_an_old_signature_is_a_hash_too() -> None:
    digest = encode_body(hashlib.sha512(b"other").digest())
    with pytest.raises(Rejected, match=r"dialog 0: .* its sha512 content_hash"):
        run(vcon_of(recording(alg="SHA-512", signature=digest)))


@pytest.mark.parametrize(
    ("dialog", "reason"),
    [
        (recording(b"no sound at all"), "cannot be decoded"),
        (
            recording(content_hash=sha512(b"other")),
            "not the one that its sha512 content_hash names",
        ),
        (recording(body="@@@@"), "not base64url"),
        (recording(encoding="none", body="hello"), "encoding 'none' cannot hold a recording"),
        (recording(encoding="json", body={"a": 1}), "encoding 'json' cannot hold a recording"),
        (recording(wav(tone(seconds=3))), "longer than the limit of 2 s"),
        ({"type": "recording", "url": "file:///etc/passwd"}, "only http and https"),
        (
            {"type": "recording", "url": "http://127.0.0.1:9/a.wav"},
            "unless `allow_private_addresses` is true",
        ),
    ],
)
def test_an_unusable_recording_is_named_and_costs_the_others_nothing(
    dialog: dict[str, Any], reason: str
) -> None:
    vcon, context = vcon_of(recording(), dialog, recording()), Context()
    with pytest.raises(Rejected, match=f"^dialog 1: .*{reason}"):
        run(vcon, context=context, max_duration_s=2)
    assert [analysis["dialog"] for analysis in vcon.analysis] == [0, 0, 2, 2]
    assert context.checkpoints == 2


class Files(BaseHTTPRequestHandler):
    """Serves the mono recording as /mono.wav, and trouble as anything else."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/mono.wav" else int(self.path[1:]))
        self.end_headers()
        self.wfile.write(MONO)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def files_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(60)


HERE: dict[str, Any] = {"fetch": {"allow_private_addresses": True}}


def linked(url: str, content: bytes = MONO) -> dict[str, Any]:
    return {"type": "recording", "url": url, "content_hash": sha512(content)}


def test_a_recording_given_by_url_is_fetched(files_url: str) -> None:
    engine = FakeEngine()
    assert len(run(vcon_of(linked(f"{files_url}/mono.wav")), engine, **HERE)) == 2
    assert len(engine.listened) == 1


def test_what_a_url_gives_must_be_what_was_promised(files_url: str) -> None:
    # It may be by the next attempt: an upload, or the file that a page stands for.
    with pytest.raises(FailedAttemptError, match=r"^dialog 0: .*sha512"):
        run(vcon_of(linked(f"{files_url}/mono.wav", b"other")), **HERE)


def test_a_server_in_trouble_is_asked_again_later(files_url: str) -> None:
    with pytest.raises(Retry):
        run(vcon_of(linked(f"{files_url}/503")), **HERE)


@pytest.mark.parametrize("status", [401, 403, 404, 204])
def test_a_url_that_does_not_give_its_recording_yet_is_tried_again(
    files_url: str, status: int
) -> None:
    """later-1: a failed attempt, so that the chain's retries say when it is given up."""
    vcon = vcon_of(linked(f"{files_url}/{status}"), recording())
    with pytest.raises(FailedAttemptError, match=rf"^dialog 0: .*{status}"):
        run(vcon, **HERE)
    assert [analysis["dialog"] for analysis in vcon.analysis] == [1, 1]


def test_a_recording_in_the_making_is_not_decoded(files_url: str) -> None:
    """later-2: the body of a 202 is not the recording."""
    with pytest.raises(Retry, match=r"^dialog 0: .*202"):
        run(vcon_of(linked(f"{files_url}/202")), **HERE)


def test_a_server_that_is_away_holds_up_no_other_dialog(files_url: str) -> None:
    vcon = vcon_of(linked(f"{files_url}/503"), linked(f"{files_url}/404"), recording())
    with pytest.raises(Retry, match=r"^dialog 0: .*503; dialog 1: .*404"):
        run(vcon, **HERE)
    assert [analysis["dialog"] for analysis in vcon.analysis] == [2, 2]


def test_a_url_that_never_gives_its_recording_can_be_skipped_in_the_last_attempt(
    files_url: str,
) -> None:
    vcon, context = vcon_of(linked(f"{files_url}/404"), recording()), Context()
    with pytest.raises(FailedAttemptError):
        run(vcon, context=context, on_unusable="skip", **HERE)
    context.last_attempt = True
    assert run(vcon, context=context, on_unusable="skip", **HERE) == []
    assert ("warning", "dialog_unusable") in [line[:2] for line in context.log.lines]


@pytest.mark.parametrize(
    ("member", "part"),
    [
        ("analysis", {"type": "WTF-Transcription", "dialog": 0}),
        ("analysis", {"type": "transcript"}),
        ("attachments", {"purpose": "wtf_transcription", "dialog": [0]}),
    ],
)
def test_every_transcript_counts_wherever_it_is(member: str, part: dict[str, Any]) -> None:
    assert run(vcon_of(recording(), **{member: [part]})) == []


def test_a_wrong_content_hash_names_the_member() -> None:
    """msg-1."""
    for name in ("sha512-abc", "sha512-@@"):
        with pytest.raises(Rejected, match=r"sha512 digest in `content_hash`"):
            run(vcon_of({"type": "recording", "url": "https://x.example/", "content_hash": name}))


def test_all_unusable_recordings_are_named() -> None:
    with pytest.raises(Rejected, match=r"^dialog 0: .*; dialog 1: "):
        run(vcon_of(recording(b"one"), recording(b"two")))


def test_unusable_recordings_can_be_skipped() -> None:
    context = Context()
    vcon = vcon_of(recording(b"no sound at all"), recording())
    added = run(vcon, context=context, on_unusable="skip")
    assert [analysis["dialog"] for analysis in added] == [1, 1]
    levels = [level for level, _, _ in context.log.lines]
    assert levels == ["warning", "debug"]
    assert context.log.lines[0][2]["dialog"] == 0


def test_a_failing_engine_fails_the_attempt_and_writes_nothing_of_that_dialog() -> None:
    vcon = vcon_of(recording())
    with pytest.raises(Retry, match="no memory"):
        run(vcon, FakeEngine(failure=Retry(30, "no memory")))
    assert vcon.analysis == []


def test_cancelling_and_time_limits_end_the_work() -> None:
    with pytest.raises(Cancelled):
        run(vcon_of(recording()), context=Context(cancel_after=0))
    with pytest.raises(TimeoutError):
        run(vcon_of(recording()), context=Context(left_s=0))
    assert len(run(vcon_of(recording()), context=Context(left_s=60))) == 2


def test_the_options_reach_the_engine_and_the_record() -> None:
    engine = FakeEngine()
    _, wtf = run(
        vcon_of(recording()), engine, language="de", beam_size=2, temperature=0, hotwords="Berg",
        device="cpu", cpu_threads=3, words=False, vad=False,
    )  # fmt: skip
    assert engine.opened == [Model(name="tiny", device="cpu", cpu_threads=3)]
    ((_, listening),) = engine.listened
    assert (listening.language, listening.beam_size) == ("de", 2)
    assert list(listening.temperatures) == [0]
    assert (listening.words, listening.vad, listening.hotwords) == (False, False, "Berg")
    told = wtf["body"]["metadata"]["options"]
    assert (told["language"], told["beam_size"], told["hotwords"]) == ("de", 2, "Berg")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "model"),
        ({"model": ""}, "model"),
        ({"model": "small", "language": "english"}, "language"),
        ({"model": "small", "language": "en-US"}, "language"),
        ({"model": "small", "device": "tpu"}, "device"),
        ({"model": "small", "compute_type": "int4"}, "compute_type"),
        ({"model": "small", "beam_size": 0}, "beam_size"),
        ({"model": "small", "temperature": []}, "temperature"),
        ({"model": "small", "temperature": [0, 2]}, "temperature"),
        ({"model": "small", "analyses": []}, "analyses"),
        ({"model": "small", "analyses": ["srt"]}, "analyses"),
        ({"model": "small", "modle": 1}, "modle"),
        ({"model": "small", "max_duration_s": 0}, "max_duration_s"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Options.model_validate(options)
    assert caught.value.errors()[0]["loc"][0] == field


def wish(**members: Any) -> dict[str, Any]:
    """What a caller wants of the first dialog, as an attachment."""
    return Request(**members).attachment("2026-11-25T08:00:00Z")


def test_a_request_overrules_the_options_for_its_dialog() -> None:
    engine = FakeEngine()
    asked = wish(language="de", translate=True, prompt="Ärzte", temperature=(0.7,), vad_pause_ms=90)
    vcon = vcon_of(recording(), recording(), attachments=[wish(language="fr"), 7, asked])
    run(vcon, engine, language="en", hotwords="codec")
    (_, first), (_, second) = engine.listened
    assert (first.language, first.translate, first.prompt) == ("de", True, "Ärzte")
    assert (first.temperatures, first.vad_pause_ms, first.hotwords) == ((0.7,), 90, "codec")
    assert (second.language, second.translate, second.prompt) == ("en", False, None)
    options = vcon.analysis[1]["body"]["metadata"]["options"]
    assert (options["language"], options["translate"]) == ("de", True)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('{"language": "klingon"}', "no language `klingon`"),
        ('{"model": "large"}', "model: Extra inputs"),
        ('{"temperature": [2]}', "temperature.0: "),
        ("[", "its transcription_request: "),
    ],
)
def test_a_request_that_cannot_be_understood_is_refused(body: str, why: str) -> None:
    asked = {**wish(), "body": body}
    with pytest.raises(Rejected, match=why.replace("[", r"\[")):
        run(vcon_of(recording(), attachments=[asked]))


def test_the_text_so_far_is_shown_only_to_who_asked() -> None:
    class Slow(FakeEngine):
        def transcribe(
            self, channels: Sequence[Any], listening: Listening, following: Following
        ) -> CallHeard:
            if following.heard:
                following.heard([[Segment(0, 1, "hello"), Segment(1, 3, "there")]], 2.0)
            return super().transcribe(channels, listening, following)

    for asked, shown in (([], []), ([wish(follow=True)], ["hello"])):
        context = Context()
        run(vcon_of(recording(), attachments=asked), Slow(), context)
        assert context.texts == shown
