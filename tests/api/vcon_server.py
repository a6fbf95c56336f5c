"""What tests of vcon-server's routes share: its clients, its example documents, its odd ones."""

from __future__ import annotations

import json
import uuid as uuidlib
from typing import Any

import httpx

from tests.api.conftest import Api
from tests.clients import http_client

HEADER = "x-conserver-api-token"
UUID = "01928e10-193e-8231-b9a2-279e0d16bc46"


def client(api: Api, role: str = "admin", **options: Any) -> httpx.Client:
    """A client that sends its token as vcon-server's do; "" for none."""
    headers = {HEADER: f"text-{role}"} if role else {}
    return http_client(api.url, headers=headers, timeout=60, **options)


def example(uuid: str = UUID, **members: Any) -> dict[str, Any]:
    """A document as vcon-server's own tests send it: version 0.0.1, with every member it knows."""
    return {
        "uuid": uuid,
        "vcon": "0.0.1",
        "created_at": "2024-10-15T14:21:04.297Z",
        "subject": "Test",
        "redacted": {},
        "appended": None,
        "group": [],
        "parties": [
            {"tel": "+19144345359", "mailto": "ada@example.com", "name": "Ada Berg"},
            {"tel": "+19144345360", "name": "Ben Oduya", "role": "agent"},
        ],
        "dialog": [
            {
                "type": "recording",
                "start": "2024-10-15T14:20:00Z",
                "duration": 42.5,
                "parties": [0, 1],
                "originator": 0,
                "mimetype": "audio/x-wav",
                "url": "https://media.example.com/call.wav",
                "alg": "SHA-512",
                "signature": "c2lnbmF0dXJl",
            }
        ],
        "analysis": [
            {
                "type": "transcript",
                "dialog": 0,
                "vendor": "deepgram",
                "encoding": "json",
                "body": json.dumps({"transcript": "hello"}),
            }
        ],
        "attachments": [
            {"type": "tags", "encoding": "json", "body": json.dumps(["source:pbx"])},
        ],
        **members,
    }


def dialog(**members: Any) -> dict[str, Any]:
    """A document whose only dialog has these members."""
    return example(dialog=[{"type": "recording", "parties": [0], **members}])


def party(tel: object) -> dict[str, Any]:
    """A document with one party and no dialog."""
    return example(parties=[{"tel": tel}], dialog=[])


ODD = {
    "a four-digit extension": (party("1234"), "parties[0].tel"),
    "a tel: address": (party("tel:+19144345359"), "parties[0].tel"),
    "a sip: address": (party("sip:ada@example.com"), "parties[0].tel"),
    "a number that is one": (party(19144345359), "parties[0].tel"),
    "mimetype with parameters": (
        dialog(mimetype="audio/ogg; codecs=opus"),
        "dialog[0].mimetype",
    ),
    "a single party": (dialog(parties=0), "dialog[0].parties"),
    "a party that is not there": (dialog(parties=[0, 7]), "dialog[0].parties"),
    "a data: url": (dialog(url="data:audio/wav;base64,UklGRg"), "dialog[0].url"),
    "a negative duration": (dialog(duration=-1), "dialog[0].duration"),
    "an unknown alg": (dialog(alg="MD5"), "dialog[0].alg"),
    "no version": (
        {name: value for name, value in example().items() if name != "vcon"},
        "vcon",
    ),
    "no created_at": (
        {name: value for name, value in example().items() if name != "created_at"},
        "created_at",
    ),
    "a uuid in capitals": (example(UUID.upper()), ""),
    "created_at as a number": (example(created_at=1729002064), ""),
    "parties that are none": (example(parties=[None, "x"], dialog=[]), ""),
    "empty lists": (example(parties=[], dialog=[], analysis=[], attachments=[]), ""),
    "members that nobody knows": (example(meta={"a": [1.10, 2**53 + 1]}), ""),
}
"""Name -> (a document that is taken, where the client is told of an oddity; "" for none)."""


def some_uuid() -> str:
    """A new one."""
    return str(uuidlib.uuid4())
