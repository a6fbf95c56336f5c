"""Real shapes of vCons, made up: what producers of all ages send, the same for the same seed.

    make("call", seed=7)       one document as a dict
    raw("call", seed=7)        its bytes
    several(100, seed=7)       (uuid, bytes) of that many documents, all shapes in turn
    SHAPES                     the names
    TRANSCRIPTS                format of a transcript -> its body, made of (speaker, words)

Every shape is a vCon that Conserver must carry without losing anything, but those in REFUSED:
bytes that must end as dead letters with a reason of their own. Texts are made of a small
vocabulary, so that a reader (and a full-text search) has something to hold on to.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import uuid as uuidlib
from collections.abc import Callable, Iterator
from typing import Any

Document = dict[str, Any]

_NAMES = ("Ada Berg", "Ben Oduya", "Cleo Marchetti", "Dai Nakamura", "Eva Lindqvist", "Femi Ade")
_WORDS = (
    "the order invoice arrived late and I would like to change my delivery address before Friday "
    "could you confirm account number please thank you for waiting our technician will call back "
    "tomorrow morning about refund battery replacement naïve façade 東京 добрый день 👍🏽"
).split()
_START = 1_735_689_600  # 2025-01-01T00:00:00Z


def make(shape: str, seed: int = 0, **members: Any) -> Document:
    """One document of a shape; `members` replace or add top-level members."""
    return {**_SHAPES[shape](random.Random(f"{shape} {seed}")), **members}


def raw(shape: str, seed: int = 0, **members: Any) -> bytes:
    """The bytes of `make`, written as most producers write them: by the json module."""
    return json.dumps(make(shape, seed, **members)).encode()


def several(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """(uuid, bytes) of `count` unsigned documents that every storage takes, the shapes in turn."""
    shapes = [shape for shape in SHAPES if shape not in ("jws", "jwe", "jwe_without_uuid", "nul")]
    for number in range(count):
        document = make(shapes[number % len(shapes)], seed + number)
        yield document["uuid"], json.dumps(document).encode()


def text(chance: random.Random, words: int) -> str:
    """A sentence that means nothing, with accents, other scripts and an emoji now and then."""
    return " ".join(chance.choices(_WORDS, k=words)).capitalize() + "."


def audio(chance: random.Random, length: int) -> bytes:
    """Bytes that call themselves a WAV file: header, then noise."""
    return b"RIFF" + length.to_bytes(4, "little") + b"WAVEfmt " + chance.randbytes(length)


def base64url(content: bytes, padded: bool = False) -> str:
    """As the standard writes it, or with the padding that many leave in."""
    encoded = base64.urlsafe_b64encode(content).decode()
    return encoded if padded else encoded.rstrip("=")


def uuid8(chance: random.Random) -> str:
    """A UUIDv8 with the tail that strolid.com's producers share."""
    head = uuidlib.UUID(int=chance.getrandbits(128), version=4).hex
    return f"{head[:8]}-{head[8:12]}-8{head[13:16]}-9dd8-dd37220d739c"


def _head(chance: random.Random, **members: Any) -> Document:
    return {"vcon": "0.4.0", "uuid": uuid8(chance), "created_at": _time(chance), **members}


def _time(chance: random.Random) -> str:
    at = _START + chance.randrange(30_000_000)
    day, second = divmod(at - _START, 86_400)
    month, day = divmod(day, 28)
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    date = f"2025-{month % 12 + 1:02}-{day + 1:02}T{clock}"
    # All of these are met: Z, an offset, microseconds, and none at all.
    return date + chance.choice(("Z", "+00:00", "-07:00", ".123456+02:00", ""))


def _party(chance: random.Random, **members: Any) -> Document:
    name = chance.choice(_NAMES)
    mail = name.lower().replace(" ", ".") + "@example.com"
    tel = f"+1555{chance.randrange(10**7):07}"
    return {"tel": tel, "mailto": mail, "name": name, "validation": "SHAKEN", **members}


def _recording(chance: random.Random, length: int = 400, **members: Any) -> Document:
    return {
        "type": "recording",
        "start": _time(chance),
        "duration": chance.choice((12, 31.5, 640.08)),
        "parties": [0, 1],
        "mediatype": "audio/x-wav",
        "filename": f"call-{chance.randrange(1000)}.wav",
        "body": base64url(audio(chance, length), padded=chance.random() < 0.5),
        "encoding": "base64url",
        **members,
    }


def _transcript(chance: random.Random, dialog: int, **members: Any) -> Document:
    words = text(chance, 60)
    body = {"transcript": words, "confidence": 0.93, "paragraphs": {"transcript": words}}
    return {
        "type": "transcript",
        "dialog": dialog,
        "vendor": "deepgram",
        "body": body,
        "encoding": "json",
        **members,
    }


def _call(chance: random.Random) -> Document:
    """A call of today's syntax: two parties on two channels, transcript, summary, tags."""
    return _head(
        chance,
        subject=text(chance, 4),
        updated_at=_time(chance),
        extensions=["wtf_transcription"],
        parties=[_party(chance, role="agent"), _party(chance, type="person", uuid="p-2")],
        dialog=[_recording(chance, parties=[0, 1], session_id={"local": "a1", "remote": "b2"})],
        analysis=[
            _transcript(chance, 0, mediatype="application/json", product="nova", schema="dg-1"),
            {"type": "summary", "dialog": [0], "vendor": "openai", "body": text(chance, 30),
             "mediatype": "text/plain", "encoding": "none"},
            _wtf(chance),
        ],
        attachments=[
            {"purpose": "tags", "start": _time(chance), "party": 0, "dialog": 0,
             "mediatype": "application/json", "encoding": "json",
             "body": ["source:pbx", "vip:vip"]},
            {"purpose": "lawful_basis", "start": _time(chance), "party": 1, "dialog": 0,
             "mediatype": "application/json", "encoding": "json",
             "body": {"lawful_basis": "consent", "expiration": None, "proof_mechanisms": []}},
        ],
    )  # fmt: skip


def _wtf(chance: random.Random) -> Document:
    words = text(chance, 8)
    segment = {"id": 0, "start": 0.0, "end": 2.48, "text": words, "confidence": 0.81, "speaker": 0}
    body = {
        "transcript": {"text": words, "language": "en-US", "duration": 2.48, "confidence": 0.81},
        "segments": [segment],
        "metadata": {"created_at": _time(chance), "processed_at": _time(chance),
                     "provider": "vfun", "model": "large-v3", "audio": {"duration": 2.48}},
    }  # fmt: skip
    return {"type": "wtf_transcription", "dialog": 0, "vendor": "vfun", "schema": "wtf-1.0",
            "mediatype": "application/json", "encoding": "json", "body": body}  # fmt: skip


def _plain(chance: random.Random) -> Document:
    """What most chains see: about 4.7 KB, text messages, an analysis or two."""
    dialog = [
        {"type": "text", "start": _time(chance), "parties": [number % 2], "originator": number % 2,
         "mediatype": "text/plain", "encoding": "none", "body": text(chance, 14)}
        for number in range(9)
    ]  # fmt: skip
    analysis = [_transcript(chance, 0), _transcript(chance, 1, encoding=None)]
    parties = [_party(chance), _party(chance)]
    return _head(chance, parties=parties, dialog=dialog, analysis=analysis, attachments=[])


def _old_call(chance: random.Random) -> Document:
    """Syntax 0.0.1: mimetype, alg and signature, bodies as strings, appended, nulls."""
    content = audio(chance, 300)
    signature = base64url(hashlib.sha512(content).digest())
    transcript = _transcript(chance, 0)
    transcript["body"] = json.dumps(transcript["body"])
    return {
        "uuid": str(uuidlib.UUID(int=chance.getrandbits(128), version=4)),
        "vcon": "0.0.1",
        "created_at": _time(chance),
        "subject": None,
        "redacted": {},
        "appended": None,
        "group": [],
        "must_support": [],
        "meta": {"adapter": "bria", "received": 1e5, "big": 2**53 + 1, "ratio": 1.10},
        "parties": [_party(chance, meta={"role": "customer"}, id="c-1"), {"name": "", "role": "x"}],
        "dialog": [
            _recording(chance, mimetype="audio/wav", mediatype=None, url=None, parties=0),
            {"type": "recording", "start": _time(chance), "parties": [0, 1], "duration": 9.0,
             "mimetype": "audio/x-wav", "filename": "b.wav", "url": "https://media.example.com/b",
             "alg": "SHA-512", "signature": signature, "campaign": "spring", "skill": ["billing"]},
        ],
        "analysis": [
            transcript,
            # Labelled json and plain text all the same: a frequent mistake.
            {"type": "review", "dialog": 0, "vendor": "in-house", "vendor_schema": {"model": "r1"},
             "body": "NO REVIEW NEEDED", "encoding": "json"},
            {"type": "score", "dialog": [0, 1], "vendor": "us", "body": "26", "encoding": "json"},
            {"type": "note", "vendor": "in-house", "body": text(chance, 5)},
        ],
        "attachments": [
            {"type": "tags", "party": 0, "body": '["source:pbx","team:blue"]', "encoding": "json"},
            {"type": "bria_call_ended", "party": 1, "mimetype": "application/json",
             "body": json.dumps({"id": chance.randrange(10**9)}), "encoding": "json"},
        ],
    }  # fmt: skip


def _channels(chance: random.Random) -> Document:
    """Every legal form of `parties`: one, a list, and one entry per channel with gaps."""
    forms: list[Any] = [0, [0, 1], [[0, 2], 1], [0, None, [1, 3]], [[0], [1], [2], [3]], []]
    dialog = [_recording(chance, 60, parties=form) for form in forms]
    dialog[1]["originator"] = 1
    dialog[2]["party_history"] = [
        {"party": 2, "time": _time(chance), "event": "join"},
        {"party": 2, "time": _time(chance), "event": "keydown", "button": "5"},
        {"party": 2, "time": _time(chance), "event": "drop"},
    ]
    dialog[3]["session_id"] = [[{"local": "x", "remote": "y"}], []]
    return _head(chance, parties=[_party(chance) for _ in range(4)], dialog=dialog)


def _chat(chance: random.Random) -> Document:
    """Text and mail, no audio; bodies plain, multipart, and of json without an encoding."""
    dialog = [
        {"type": "text", "start": _time(chance), "parties": [0, 1, 2],
         "message_id": f"<{number}@ex>",
         "mediatype": "text/plain; charset=utf-8", "encoding": "none",
         "body": text(chance, 20)}
        for number in range(12)
    ]  # fmt: skip
    mail = {
        "type": "text",
        "parties": [0],
        "mediatype": "multipart/mixed; boundary=b",
        "encoding": "none",
        "body": "--b\r\nContent-Type: text/html\r\n\r\n<p>hi</p>\r\n--b--",
    }
    dialog.append(mail)
    dialog.append(
        {"type": "text", "parties": [1], "mimetype": "application/json", "body": '{"a": [1, 2]}'}
    )
    parties = [_party(chance), {"mailto": "list@example.com"}, {}]
    return _head(chance, parties=parties, dialog=dialog, analysis=[])


def _transfer(chance: random.Random) -> Document:
    """A call, its consultation and its transfer, in both spellings."""
    base = {"type": "transfer", "start": _time(chance), "transferee": 0, "transferor": 1}
    new = {**base, "transfer_target": 2, "original": 0, "consultation": 1, "target_dialog": 2}
    old = {**base, "transfer-target": [2], "original": [0], "target-dialog": [2]}
    recordings = [
        _recording(chance, 50, parties=pair, recording_set=5) for pair in ([0, 1], [1, 2], [0, 2])
    ]
    whole = {
        "type": "recording-set",
        "start": _time(chance),
        "parties": [0, 1, 2],
        "recordings": [0, 1, 2],
    }
    return _head(
        chance, parties=[_party(chance) for _ in range(3)], dialog=[*recordings, new, old, whole]
    )


def _incomplete(chance: random.Random) -> Document:
    """Nobody answered: no content at all, six reasons."""
    reasons = ("no-answer", "congestion", "failed", "busy", "hung-up", "voicemail-no-message")
    dialog = [
        {"type": "incomplete", "start": _time(chance), "parties": [0, 1], "disposition": reason}
        for reason in reasons
    ]
    return _head(chance, parties=[_party(chance), _party(chance)], dialog=dialog)


def _external(chance: random.Random) -> Document:
    """Content elsewhere, with its hash: one, several, and a redacted version."""
    digest = base64url(hashlib.sha512(b"call.wav").digest())
    weak = base64url(hashlib.sha256(b"call.wav").digest())
    dialog = [
        {"type": "recording", "start": _time(chance), "duration": 3, "parties": [0, 1],
         "mediatype": "audio/mpeg", "url": "https://media.example.com/call.mp3",
         "content_hash": f"sha512-{digest}"},
        {"type": "recording", "start": _time(chance), "duration": 3, "parties": [0, 1],
         "mediatype": "audio/mpeg", "url": "https://media.example.com/call2.mp3",
         "content_hash": [f"sha256-{weak}", f"sha512-{digest}"]},
        {"type": "recording", "start": _time(chance), "parties": [0]},
    ]  # fmt: skip
    redacted = {"type": "PII", "uuid": uuid8(chance), "url": "https://vcons.example.com/1",
                "content_hash": f"sha512-{digest}"}  # fmt: skip
    return _head(chance, redacted=redacted, parties=[_party(chance), {}], dialog=dialog)


def _unknown_members(chance: random.Random) -> Document:
    """Members that nobody knows, everywhere, of every JSON type, and names that are awkward."""
    odd: Document = {
        "x-null": None,
        "x-list": [1, [2, [3]]],
        "x-float": 1.0,
        "x-zero": -0.0,
        "": "empty",
        "a.b": {"c": []},
        "$ref": "#",
        "x-true": True,
        "x-text": 'tab\t quote" \u2028',
    }
    document = _head(chance, **odd)
    document["parties"] = [_party(chance, **odd), {"x-only": odd}]
    document["dialog"] = [_recording(chance, 40, **odd)]
    document["analysis"] = [_transcript(chance, 0, **odd)]
    document["attachments"] = [{**odd, "purpose": "tags", "encoding": "json", "body": ["a:b"]}]
    document["sessions"] = [{"id": "s-1", **odd}]
    return document


def _nul(chance: random.Random) -> Document:
    """A NUL character: legal JSON, and not every storage takes it."""
    return _head(chance, subject="left\u0000right", parties=[_party(chance)])


def _minimal(chance: random.Random) -> Document:
    """A uuid and nothing else."""
    return {"uuid": uuid8(chance)}


def _null_lists(chance: random.Random) -> Document:
    """Lists that are null, and one with placeholders for what was deleted."""
    party, recording = _party(chance), _recording(chance, 20, parties=[1])
    lists = {
        "parties": [None, party],
        "dialog": [None, recording],
        "analysis": None,
        "attachments": None,
    }
    return _head(chance, **lists)


def _big_bodies(chance: random.Random) -> Document:
    """A long call inline: 300 KB of audio, and a long transcript."""
    document = _call(chance)
    document["dialog"] = [_recording(chance, 230_000)]
    document["analysis"].append(_transcript(chance, 0, body={"transcript": text(chance, 4000)}))
    return document


def _critical(chance: random.Random) -> Document:
    """An extension that whoever does not know it must not touch."""
    return {**_call(chance), "critical": ["x-sealed"], "extensions": ["x-sealed"]}


def _old_critical(chance: random.Random) -> Document:
    """The same in the spelling before 0.4.0."""
    return {**_old_call(chance), "must_support": ["x-sealed"]}


def _jws(chance: random.Random) -> Document:
    """A signed vCon: JWS General JSON. The signature is noise; nobody here verifies it."""
    payload = json.dumps(_call(chance)).encode()
    header = {"alg": "RS256", "x5c": ["MIIB"], "uuid": uuid8(chance)}
    protected = base64url(json.dumps({"alg": "RS256"}).encode())
    signature = {
        "header": header,
        "protected": protected,
        "signature": base64url(chance.randbytes(64)),
    }
    return {"payload": base64url(payload), "signatures": [signature]}


def _jwe(chance: random.Random) -> Document:
    """An encrypted vCon: JWE General JSON."""
    document = _jwe_without_uuid(chance)
    return {**document, "unprotected": {**document["unprotected"], "uuid": uuid8(chance)}}


def _jwe_without_uuid(chance: random.Random) -> Document:
    """An encrypted vCon whose producer left the uuid out, as the standard allows."""
    recipient = {"header": {"alg": "RSA-OAEP"}, "encrypted_key": base64url(chance.randbytes(32))}
    return {
        "unprotected": {"cty": "application/vcon+json", "enc": "A256CBC-HS512"},
        "recipients": [recipient],
        "iv": base64url(chance.randbytes(16)),
        "ciphertext": base64url(chance.randbytes(900)),
        "tag": base64url(chance.randbytes(16)),
    }


Turns = list[tuple[str, str]]


def _all_said(turns: Turns, between: str = " ") -> str:
    return between.join(words for _, words in turns)


def _as_conversation(turns: Turns) -> str:
    return "\n\n".join(f"{speaker}: {words}" for speaker, words in turns)


def _alternative(turns: Turns) -> Document:
    return {
        "transcript": _all_said(turns),
        "confidence": 0.97,
        "words": [{"word": "hello", "start": 0.1, "end": 0.4, "confidence": 0.9}],
        "paragraphs": {
            "transcript": _as_conversation(turns),
            "paragraphs": [
                {"speaker": number % 2, "sentences": [{"text": words, "start": 0, "end": 1}]}
                for number, (_, words) in enumerate(turns)
            ],
        },
    }


def _wtf_body(turns: Turns, **members: Any) -> Document:
    names = list(dict.fromkeys(speaker for speaker, _ in turns))
    return {
        "transcript": {"text": _all_said(turns), "language": "en", "duration": 2, "confidence": 1},
        "segments": [
            {"id": number, "start": number, "end": number + 1, "text": words, "confidence": 0.9,
             "speaker": names.index(speaker)}
            for number, (speaker, words) in enumerate(turns)
        ],
        "speakers": {str(key): {"id": key, "label": name} for key, name in enumerate(names)},
        "metadata": {"provider": "vfun", "model": "large-v3"},
        **members,
    }  # fmt: skip


def _without(body: Document, *names: str) -> Document:
    return {name: value for name, value in body.items() if name not in names}


#: The formats of transcripts that are in use: name -> body, made of (speaker, words) in turn.
TRANSCRIPTS: dict[str, Callable[[Turns], Any]] = {
    "plain text": _all_said,
    "deepgram, as vcon-server's link keeps it": _alternative,
    "deepgram, without paragraphs": lambda turns: _without(_alternative(turns), "paragraphs"),
    "deepgram, its whole answer": lambda turns: {
        "metadata": {"request_id": "r", "channels": 1, "models": ["m"]},
        "results": {"channels": [{"alternatives": [_alternative(turns), {"transcript": "or"}]}]},
    },
    "deepgram, a channel for each party": lambda turns: {
        "results": {
            "channels": [{"alternatives": [{"transcript": words}]} for _, words in turns],
            "utterances": [
                {"transcript": words, "channel": number, "speaker": number}
                for number, (_, words) in enumerate(turns)
            ],
        },
    },
    "openai": lambda turns: {"text": _all_said(turns), "usage": {"type": "duration", "seconds": 3}},
    "openai, with speakers": lambda turns: {
        "text": _all_said(turns),
        "task": "transcribe",
        "segments": [
            {"id": f"s{number}", "type": "transcript.text.segment", "speaker": name, "text": words}
            for number, (name, words) in enumerate(turns)
        ],
    },
    "groq": lambda turns: {"text": f" {_all_said(turns)}", "x_groq": {"id": "req_1"}},
    "hugging face": lambda turns: {
        "text": _all_said(turns),
        "chunks": [{"text": words, "timestamp": [0.0, 1.5]} for _, words in turns],
    },
    "hugging face, a list": lambda turns: [{"text": words} for _, words in turns],
    "whisper, segments alone": lambda turns: {
        "segments": [{"start": 0, "end": 1, "text": f" {words}"} for _, words in turns],
    },
    "wtf": _wtf_body,
    "wtf, older, segments alone": lambda turns: _wtf_body(turns, transcript={"language": "en"}),
    "wtf, older, without speakers": lambda turns: _without(_wtf_body(turns), "speakers"),
    "speaker and message": lambda turns: [
        {"speaker": speaker, "message": words} for speaker, words in turns
    ],
    "speaker and text, in an object": lambda turns: {
        "transcript": [{"speaker": speaker, "text": words} for speaker, words in turns]
    },
    "a list of texts": lambda turns: [words for _, words in turns],
    "assemblyai": lambda turns: {
        "status": "completed",
        "text": _all_said(turns),
        "utterances": [{"speaker": name, "text": words} for name, words in turns],
    },
    "amazon": lambda turns: {
        "jobName": "j",
        "results": {"transcripts": [{"transcript": _all_said(turns)}], "items": []},
    },
    "google": lambda turns: {
        "results": [{"alternatives": [{"transcript": words}, {}]} for _, words in turns]
    },
    "rev": lambda turns: {
        "monologues": [
            {"speaker": number, "elements": [{"type": "text", "value": words}]}
            for number, (_, words) in enumerate(turns)
        ]
    },
    "words alone": lambda turns: {"words": [{"word": word} for word in _all_said(turns).split()]},
}  # fmt: skip


def _transcripts(chance: random.Random) -> Document:
    """A recording for each format of transcript, labelled in every way; tags in every way."""
    ways: list[tuple[str, Callable[[Any], Document]]] = [
        ("native", lambda body: {"body": body, "encoding": "json"}),
        ("a string", lambda body: {"body": json.dumps(body), "encoding": "json"}),
        ("labelled none", lambda body: {"body": json.dumps(body), "encoding": "none"}),
        ("not labelled", lambda body: {"body": json.dumps(body)}),
    ]
    analysis = []
    for number, make_body in enumerate(TRANSCRIPTS.values()):
        body = make_body([("Ann", text(chance, 5)), ("Ben", text(chance, 5))])
        labelled = (
            ways[number % len(ways)][1](body) if not isinstance(body, str) else {"body": body}
        )
        kind = chance.choice(("transcript", "transcription", "wtf_transcription"))
        analysis.append({"type": kind, "dialog": number, "vendor": "v", **labelled})
    dialog = [_recording(chance, 20) for _ in analysis]
    tags = json.dumps(["source:pbx", "team:blue"])
    attachments = [
        {"purpose": "wtf_transcription", "dialog": 0, "encoding": "json",
         "body": _wtf_body([("Ann", text(chance, 3))])},
        {"type": "tags", "body": tags},
        {"type": "tags", "body": tags, "encoding": "none"},
        {"purpose": "tags", "body": {"team": "blue"}},
    ]  # fmt: skip
    parties = [_party(chance), _party(chance)]
    return _head(chance, parties=parties, dialog=dialog, analysis=analysis, attachments=attachments)


_SHAPES: dict[str, Callable[[random.Random], Document]] = {
    "plain": _plain,
    "call": _call,
    "old_call": _old_call,
    "channels": _channels,
    "chat": _chat,
    "transfer": _transfer,
    "incomplete": _incomplete,
    "external": _external,
    "unknown_members": _unknown_members,
    "transcripts": _transcripts,
    "minimal": _minimal,
    "null_lists": _null_lists,
    "big_bodies": _big_bodies,
    "jws": _jws,
    "jwe": _jwe,
    "jwe_without_uuid": _jwe_without_uuid,
    "nul": _nul,
}

#: Every shape that is carried.
SHAPES = tuple(_SHAPES)

_SHAPES.update(critical=_critical, old_critical=_old_critical)

#: Shapes that only a chain which supports the extension "x-sealed" may process.
CRITICAL = ("critical", "old_critical")

#: name -> bytes that are no vCon; each becomes a dead letter with a reason.
REFUSED: dict[str, bytes] = {
    "empty": b"",
    "not_json": b"{uuid: 1}",
    "cut_off": b'{"uuid": "7a31c0de-0000-8000-8000-000000000001", "parties": [',
    "not_utf8": b'{"uuid": "7a31c0de-0000-8000-8000-000000000002", "subject": "\xff"}',
    "nan": b'{"uuid": "7a31c0de-0000-8000-8000-000000000003", "duration": NaN}',
    "lone_surrogate": b'{"uuid": "7a31c0de-0000-8000-8000-000000000004", "subject": "\\ud83d"}',
    "bottomless": b'{"uuid": "x", "a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "empty_object": b"{}",
    "array": b"[]",
    "null": b"null",
    "number": b"42",
    "string": b'"7a31c0de-0000-8000-8000-000000000005"',
    "uuid_empty": b'{"uuid": ""}',
    "uuid_number": b'{"uuid": 7}',
    "uuid_path": b'{"uuid": "../../etc/passwd"}',
    "dialog_object": b'{"uuid": "7a31c0de-0000-8000-8000-000000000006", "dialog": {"a": 1}}',
    "parties_string": b'{"uuid": "7a31c0de-0000-8000-8000-000000000007", "parties": "Ada, Ben"}',
}
