"""The work of a run: the configuration, the items that are pushed, and what must become of each.

Three chains: `a` serves two lists, `b` one, both with every storage; `c` has none, so that its
documents are written together with their settle. Each runs tests/modules/marks.py, which leaves one
mark per run in the vCon. A vCon that was pushed twice on chain `a` and once on `b` therefore comes
out of `a` twice and of `b` once, and ends with two marks of `a` and one of `b`, everywhere.

What is pushed, in which form and with which peculiarity, is drawn from the seed alone.
"""

from __future__ import annotations

import json
import random
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

LISTS = {"in-a1": "a", "in-a2": "a", "in-b": "b", "in-c": "c"}
EGRESS = {chain: f"out-{chain}" for chain in "abc"}
STORED_CHAINS = "ab"
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
# Deliveries count only deaths of workers that run a suspect alone; here they are all our doing, so
# no innocent item may be given up for them.
MAX_DELIVERIES = 50

# Peculiarity -> how many of a thousand items have it. The rest is plain.
PER_THOUSAND = {
    "whole": 150,  # the document itself is pushed
    "both": 80,  # on a list of chain a and on that of chain b, one right after the other
    "twice": 60,  # the same uuid on the same chain
    "equal": 20,  # the same document pushed whole, twice
    "corrected": 20,  # its producer replaces the document later, and pushes it again
    "slow": 30,
    "paid": 20,  # a checkpoint in the middle of its link
    "fail": 20,  # its first attempt fails
    "retry": 20,
    "large": 10,  # more than an answer of Redis carries
    "filter": 10,
    "reject": 10,
    "broken": 5,  # a payload that is no vCon
}
LARGE_CHARS = 300_000


def config(storages: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of every host."""
    chains = {}
    for chain in "abc":
        chains[chain] = {
            "links": ["mark", "tag"] if chain == "a" else ["mark"],
            "storages": list(storages) if chain in STORED_CHAINS else [],
            "ingress_lists": [name for name, of in LISTS.items() if of == chain],
            "egress_lists": [EGRESS[chain]],
            "max_deliveries": MAX_DELIVERIES,
            "backoff_s": 0.1,
            "backoff_max_s": 1.0,
        }
    return {
        "links": {
            "mark": {"module": "tests.modules.marks"},
            "tag": {"module": "links.tag", "options": {"tags": ["chaos"]}},
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


@dataclass(slots=True)
class Ledger:
    """All that was pushed."""

    vcons: dict[str, Expected] = field(default_factory=dict)
    rejected: Counter[bytes] = field(default_factory=Counter)  # payloads that must become dead
    items: int = 0

    def enter(self, push: Push, peculiarity: str, note: str = "") -> None:
        """Write down a push that Redis has answered."""
        self.items += 1
        if peculiarity in ("reject", "broken"):
            self.rejected[push.payload] += 1
            return
        expected = self.vcons.setdefault(push.uuid, Expected())
        if peculiarity == "filter":
            expected.stored = False
            return
        expected.pushes[LISTS[push.list]] += 1
        expected.stored = any(chain in STORED_CHAINS for chain in expected.pushes)
        expected.exact = expected.exact and peculiarity not in ("corrected", "equal")
        expected.note = note or expected.note


def items(count: int, seed: int) -> Iterator[tuple[Push, str, str]]:
    """(push, peculiarity, note) of `count` items, in the order in which they are pushed."""
    draw = random.Random(f"items {seed}")
    later: list[tuple[int, Push, str]] = []
    number = 0
    while number < count:
        if later and later[0][0] <= number:
            _, push, note = later.pop(0)
            yield _numbered(push, number), "corrected", note
            number += 1
            continue
        for push, peculiarity in _some(draw):
            if number >= count:
                return
            yield _numbered(push, number), peculiarity, ""
            number += 1
            if peculiarity == "corrected":
                document = _vcon(push.uuid, note="corrected")
                again = Push(0, push.list, push.uuid.encode(), push.uuid, document)
                later.append((number + draw.randrange(5, 60), again, "corrected"))
                later.sort(key=lambda entry: entry[0])


def _some(draw: random.Random) -> list[tuple[Push, str]]:
    """One drawn item, or the two that belong together."""
    ticket, peculiarity = draw.randrange(1000), ""
    for name, share in PER_THOUSAND.items():
        if ticket < share:
            peculiarity = name
            break
        ticket -= share
    identity = str(uuid.UUID(int=draw.getrandbits(128), version=4))
    name = draw.choices(["in-a1", "in-a2", "in-b", "in-c"], [4, 2, 3, 1])[0]
    if peculiarity == "broken":
        payload = draw.choice([b"{not json", b"[]", b"null", b"12", b"{}", b'{"vcon":"0.4.0"}'])
        return [(Push(0, name, payload), peculiarity)]
    members: dict[str, Any] = {}
    if peculiarity in ("reject", "filter", "retry"):
        members["subject"] = peculiarity
    elif peculiarity == "slow":
        members["subject"] = f"sleep:{draw.choice([0.05, 0.2, 0.5, 1.5])}"
    elif peculiarity == "paid":
        members["subject"] = f"paid:{draw.choice([0.0, 0.2, 1.0])}"
    elif peculiarity == "fail":
        members["subject"] = "fail:1"
    elif peculiarity == "large":
        members["body"] = "x" * LARGE_CHARS
    document = _vcon(identity, **members)
    if peculiarity in ("whole", "equal"):
        push = Push(0, name, document, identity)
        return [(push, peculiarity)] * (2 if peculiarity == "equal" else 1)
    first = Push(0, name, identity.encode(), identity, document)
    if peculiarity == "both":
        first = Push(0, "in-a1", first.payload, identity, document)
        return [(first, peculiarity), (Push(0, "in-b", first.payload, identity), peculiarity)]
    if peculiarity == "twice":
        return [(first, peculiarity), (Push(0, name, first.payload, identity), peculiarity)]
    return [(first, peculiarity)]


def _numbered(push: Push, number: int) -> Push:
    return Push(number, push.list, push.payload, push.uuid, push.document)


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
