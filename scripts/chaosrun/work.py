"""The work of a run: the configuration, the items that are pushed, and what must become of each.

Five chains. `a` serves two lists, `b` one, both with every storage; `c` has none, so that its
documents are written together with their settle. Each runs tests/modules/marks.py, which leaves one
mark per run in the vCon. A vCon that was pushed twice on chain `a` and once on `b` therefore comes
out of `a` twice and of `b` once, and ends with two marks of `a` and one of `b`, everywhere. Chain
`speech` transcribes a short call first, which must be in its vCon once, whoever died over it; and
the last chain is for poison: items that kill whoever runs them.

What is pushed, in which form and with which peculiarity, is drawn from the seed alone.
"""

from __future__ import annotations

import io
import json
import random
import uuid
import wave
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import redis

from conserver.vcon.content import encode_body

OWN_LISTS = {"speech": "in-speech", "poison": "in-poison"}  # of peculiarities
LISTS = {"in-a1": "a", "in-a2": "a", "in-b": "b", "in-c": "c"}
LISTS |= {name: chain for chain, name in OWN_LISTS.items()}
WEIGHTS = {"in-a1": 4, "in-a2": 2, "in-b": 3, "in-c": 1}
EGRESS = {chain: f"out-{chain}" for chain in ("a", "b", "c", "speech", "poison")}
STORED_CHAINS = ("a", "b", "speech")
DATA = Path(__file__).resolve().parents[1] / "data"
PUSHED = "chaos:pushed"
# How a producer pushes without ever pushing twice: the number of the push is remembered with it.
PUSH = """
if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then
  if ARGV[3] ~= '' then
    redis.call('SET', KEYS[3], ARGV[3])
  end
  redis.call('RPUSH', KEYS[2], ARGV[2])
end
return 1
"""
# Only deaths of workers that run a suspect alone are counted; here they are all our doing, so
# no innocent item may be given up for them.
MAX_DELIVERIES = 50
POISON_DELIVERIES = 2

# Peculiarity -> how many of ten thousand items have it. The rest is plain.
SHARES = {
    "whole": 1500,  # the document itself is pushed
    "both": 800,  # on a list of chain a and on that of chain b, one right after the other
    "twice": 600,  # the same uuid on the same chain
    "hot": 500,  # one of a few vCons that are pushed on any list again and again
    "equal": 200,  # the same document pushed whole, twice
    "corrected": 200,  # its producer replaces the document later, and pushes it again
    "slow": 300,
    "paid": 200,  # a checkpoint in the middle of its link
    "fail": 200,  # its first attempt fails
    "retry": 200,
    "large": 100,  # more than an answer of Redis carries
    "filter": 100,
    "reject": 100,
    "broken": 50,  # a payload that is no vCon
    "speech": 20,
    "poison": 5,
}
SPEECH = SHARES["speech"]
CALL_TIMES = 6
"""How often a call says the same: it is long enough to be at work when somebody dies."""

DEAD = {"reject": "rejected", "broken": "rejected", "poison": "poison"}
HOT_VCONS = 10
LARGE_CHARS = 300_000


def config(storages: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of every host."""
    chains = {}
    for chain, egress in EGRESS.items():
        chains[chain] = {
            "links": {"a": ["mark", "tag"], "speech": ["listen", "mark"]}.get(chain, ["mark"]),
            "storages": list(storages) if chain in STORED_CHAINS else [],
            "ingress_lists": [name for name, of in LISTS.items() if of == chain],
            "egress_lists": [egress],
            "max_deliveries": POISON_DELIVERIES if chain == "poison" else MAX_DELIVERIES,
            "backoff_s": 0.1,
            "backoff_max_s": 1.0,
        }
    return {
        "links": {
            "mark": {"module": "tests.modules.marks"},
            "tag": {"module": "links.tag", "options": {"tags": ["chaos"]}},
            "listen": {
                "module": "links.transcribe",
                "options": {"model": str(DATA / "tiny-whisper"), "language": "en"},
            },
        },
        "storages": dict(storages),
        "chains": chains,
    }


@dataclass(frozen=True, slots=True)
class Push:
    """One push: on a list, a payload, and the document that is stored before it, if any."""

    number: int
    list: str
    payload: bytes
    uuid: str = ""
    document: bytes = b""

    def send(self, client: redis.Redis) -> None:
        """Push, once, however often this is called. Raises redis.RedisError: call it again."""
        keys = (PUSHED, self.list, f"vcon:{self.uuid}")
        client.eval(PUSH, 3, *keys, str(self.number), self.payload, self.document)


@dataclass(slots=True)
class Expected:
    """What must become of one vCon."""

    pushes: Counter[str] = field(default_factory=Counter)  # chain -> how often it comes out of it
    exact: bool = True  # its marks are as many as its pushes; else its producer replaced it
    stored: bool = True
    note: str = ""  # what every copy must hold in `note` at the end
    transcripts: int = 0


@dataclass(slots=True)
class Ledger:
    """All that was pushed."""

    vcons: dict[str, Expected] = field(default_factory=dict)
    # (payload, reason) of all that must become dead letters
    dead: Counter[tuple[bytes, str]] = field(default_factory=Counter)
    items: int = 0

    def enter(self, push: Push, peculiarity: str, note: str = "") -> None:
        """Write down a push that Redis has answered."""
        self.items += 1
        if peculiarity in DEAD:
            self.dead[push.payload, DEAD[peculiarity]] += 1
            return
        expected = self.vcons.setdefault(push.uuid, Expected())
        if peculiarity == "filter":
            expected.stored = False
            return
        expected.pushes[LISTS[push.list]] += 1
        expected.stored = any(chain in STORED_CHAINS for chain in expected.pushes)
        expected.exact = expected.exact and peculiarity not in ("corrected", "equal")
        expected.note = note or expected.note
        expected.transcripts = int(peculiarity == "speech")


def items(count: int, seed: int, speech: int = SPEECH) -> Iterator[tuple[Push, str, str]]:
    """(push, peculiarity, note) of `count` items, in the order in which they are pushed.

    speech: how many of ten thousand are calls to be transcribed.
    """
    draw = random.Random(f"items {seed}")
    hot = [_identity(draw) for _ in range(HOT_VCONS)]
    known: set[str] = set()  # hot vCons that have been pushed
    later: list[tuple[int, Push]] = []
    number = 0
    while number < count:
        if later and later[0][0] <= number:
            _, push = later.pop(0)
            drawn, note = [(push, "corrected")], "corrected"
        else:
            drawn, note = _some(draw, hot, known, speech), ""
        for push, peculiarity in drawn:
            if number >= count:
                return
            yield replace(push, number=number), peculiarity, note
            number += 1
            if peculiarity == "corrected" and not note:
                document = _vcon(push.uuid, note="corrected")
                again = Push(0, push.list, push.uuid.encode(), push.uuid, document)
                later.append((number + draw.randrange(5, 60), again))
                later.sort(key=lambda entry: entry[0])


def _some(
    draw: random.Random, hot: list[str], known: set[str], speech: int
) -> list[tuple[Push, str]]:
    """One drawn item, or the two that belong together."""
    peculiarity = _peculiarity(draw, speech)
    name = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    if peculiarity == "broken":
        payload = draw.choice([b"{not json", b"[]", b"null", b"12", b"{}", b'{"vcon":"0.4.0"}'])
        return [(Push(0, name, payload), peculiarity)]
    if peculiarity == "hot":
        identity = draw.choice(hot)
        document = b"" if identity in known else _vcon(identity)
        known.add(identity)
        return [(Push(0, name, identity.encode(), identity, document), peculiarity)]
    identity = _identity(draw)
    document = _vcon(identity, **_members(draw, peculiarity))
    if peculiarity in ("whole", "equal"):
        push = Push(0, name, document, identity)
        return [(push, peculiarity)] * (2 if peculiarity == "equal" else 1)
    if peculiarity == "both":
        name, other = "in-a1", "in-b"
    else:
        name, other = OWN_LISTS.get(peculiarity, name), name
    first = Push(0, name, identity.encode(), identity, document)
    if peculiarity in ("both", "twice"):
        return [(first, peculiarity), (Push(0, other, first.payload, identity), peculiarity)]
    return [(first, peculiarity)]


def _peculiarity(draw: random.Random, speech: int) -> str:
    ticket = draw.randrange(10_000)
    for name, share in (SHARES | {"speech": speech}).items():
        if ticket < share:
            return name
        ticket -= share
    return ""


def _members(draw: random.Random, peculiarity: str) -> dict[str, Any]:
    """What makes a document peculiar."""
    match peculiarity:
        case "reject" | "filter" | "retry":
            return {"subject": peculiarity}
        case "poison":
            return {"subject": "exit"}
        case "slow":
            return {"subject": f"sleep:{draw.choice([0.05, 0.2, 0.5, 1.5])}"}
        case "paid":
            return {"subject": f"paid:{draw.choice([0.0, 0.2, 1.0])}"}
        case "fail":
            return {"subject": "fail:1"}
        case "large":
            return {"body": "x" * LARGE_CHARS}
        case "speech":
            return {"dialog": [_call()]}
    return {}


def _identity(draw: random.Random) -> str:
    return str(uuid.UUID(int=draw.getrandbits(128), version=4))


@cache
def _call() -> dict[str, Any]:
    """A call of a few sentences, as a dialog."""
    target = io.BytesIO()
    with (
        wave.open(str(DATA / "calls" / "mono-16k.wav")) as once,
        wave.open(target, "wb") as call,
    ):
        call.setparams(once.getparams())
        sound = once.readframes(once.getnframes())
        call.writeframes(sound * CALL_TIMES)
    return {
        "type": "recording",
        "start": "2026-11-01T10:00:00Z",
        "parties": [0],
        "mediatype": "audio/x-wav",
        "body": encode_body(target.getvalue()),
        "encoding": "base64url",
    }


def _vcon(identity: str, body: str = "hello", **members: Any) -> bytes:
    dialog = {
        "type": "text",
        "start": "2026-11-01T10:00:00Z",
        "parties": [0, 1],
        "mediatype": "text/plain",
        "body": body,
        "encoding": "none",
    }
    document = {
        "vcon": "0.4.0",
        "uuid": identity,
        "created_at": "2026-11-01T10:00:00Z",
        "parties": [{"tel": "+12025550100", "name": "Ann"}, {"tel": "+12025550101"}],
        "dialog": [dialog],
        "analysis": [],
        "attachments": [],
        **members,
    }
    return json.dumps(document, separators=(",", ":")).encode()
