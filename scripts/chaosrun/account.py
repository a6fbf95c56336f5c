"""Waiting until nothing is on its way any more, and the account of what became of every item."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import redis

from chaosrun.town import Town
from chaosrun.work import EGRESS, LISTS, STORED_CHAINS, Expected, Ledger
from conserver.queue import host_calls, script
from conserver.queue.record import parse
from tests.modules.marks import marks

IDLE_S_MAX = 120.0
"""Nothing has moved for so long: what is still on its way will not arrive."""

LOOK_S = 0.5
RECALL_EVERY_S = 10.0
"""What is parked for the sake of a storage that was away would wait for as long again."""

PAGE = 500
WAYS = ("conserver:returned:", "conserver:suspects:", "conserver:parked:")


@dataclass(slots=True)
class Account:
    """What was found at the end; `findings` says in words what must not be."""

    egressed: int = 0
    dead: int = 0
    lost: int = 0
    doubled: int = 0
    unstored: int = 0
    wrong: int = 0  # documents whose additions are missing or there twice
    left: list[str] = field(default_factory=list)  # keys that must not be there
    stored: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing was lost, doubled or left."""
        return not self.findings


def on_their_way(client: Any) -> dict[str, int]:
    """How many items are where; nothing but zeros are left out."""
    found: dict[str, int] = {}
    for name in LISTS:
        found[name] = int(client.llen(name))
        for way in WAYS:
            key = way + name
            found[key] = int(client.zcard(key) if "parked" in way else client.llen(key))
    for key in client.keys("conserver:inflight:*"):
        found[key.decode()] = int(client.hlen(key))
    return {name: count for name, count in found.items() if count}


def settle(town: Town, tend: Callable[[], object], log: Callable[[str], None]) -> None:
    """Wait until no item is on its way and every host that is known lives.

    Gives up when nothing has moved for two minutes: the account then says what is left.
    """
    last: object = None
    since_s = recalled_s = time.monotonic()
    while True:
        tend()
        try:
            with town.client() as client:
                if time.monotonic() - recalled_s > RECALL_EVERY_S:
                    recalled_s = time.monotonic()
                    _recall(client)
                waiting = on_their_way(client)
                hosts = int(client.scard("conserver:hosts"))
                ended = [int(client.llen(name)) for name in EGRESS.values()]
        except redis.RedisError as error:
            log(f"Redis does not answer: {error}")
            waiting, hosts, ended = {}, 0, []
        if not waiting and hosts == len(town.hosts):
            return
        if (waiting, hosts, ended) != last:
            last, since_s = (waiting, hosts, ended), time.monotonic()
        if time.monotonic() - since_s > IDLE_S_MAX:
            log(f"nothing moves any more: {hosts} hosts, {waiting}")
            return
        time.sleep(LOOK_S)


def _recall(client: Any) -> None:
    """As an operator does when a storage is well again: nothing waits any longer."""
    for name in LISTS:
        script.run(client, host_calls.promote(name, PAGE, everything=True))


def draw_up(town: Town, ledger: Ledger) -> Account:
    """The account; the hosts have been stopped."""
    account = Account()
    with town.client() as client:
        _egress(client, ledger, account)
        _dead_letters(client, ledger, account)
        _left(client, account)
        _documents(account, ledger, "redis", _from_redis(client, ledger.vcons))
    wanted = {uuid for uuid, expected in ledger.vcons.items() if expected.stored}
    for name, place in town.places.items():
        held = place.uuids()
        account.stored[name] = len(held & wanted)
        missing = wanted - held
        account.unstored += len(missing)
        account.findings += [f"{uuid} is not stored in {name}" for uuid in sorted(missing)]
        account.findings += [
            f"{uuid} is stored in {name} and must not be" for uuid in sorted(held - wanted)
        ]
        _documents(account, ledger, name, place.documents(wanted & held))
    return account


def _egress(client: Any, ledger: Ledger, account: Account) -> None:
    for chain, name in EGRESS.items():
        arrived = Counter(uuid.decode() for uuid in client.lrange(name, 0, -1))
        account.egressed += arrived.total()
        for uuid in arrived.keys() | ledger.vcons.keys():
            expected = ledger.vcons.get(uuid, Expected()).pushes[chain]
            if arrived[uuid] < expected:
                account.lost += expected - arrived[uuid]
            elif arrived[uuid] > expected:
                account.doubled += arrived[uuid] - expected
            if arrived[uuid] != expected:
                account.findings.append(
                    f"{uuid} came out of chain {chain} {arrived[uuid]} times, not {expected}"
                )


def _dead_letters(client: Any, ledger: Ledger, account: Account) -> None:
    """Each as often as expected, and each with its reason."""
    bare: Counter[bytes] = Counter()
    found: Counter[tuple[bytes, str]] = Counter()
    for name in LISTS:
        bare.update(client.lrange(f"DLQ:{name}", 0, -1))
        for member in client.zrange(f"conserver:dead:{name}", 0, -1):
            line, _, record = member.partition(b"\n")
            found[parse(record).payload, json.loads(line)["reason"]] += 1
    account.dead = bare.total()
    expected: Counter[bytes] = Counter()
    for (payload, _reason), count in ledger.dead.items():
        expected[payload] += count
    for payload in bare.keys() | expected.keys():
        account.lost += max(0, expected[payload] - bare[payload])
    for key in found.keys() | ledger.dead.keys():
        if not found[key] == ledger.dead[key] == bare[key[0]]:
            text = key[0][:60].decode(errors="replace")
            account.findings.append(
                f"{text} is a dead letter ({key[1]}) {found[key]} times, not {ledger.dead[key]};"
                f" DLQ has it {bare[key[0]]} times"
            )


def _left(client: Any, account: Account) -> None:
    account.left = sorted(on_their_way(client))
    for pattern in ("conserver:host:*", "conserver:hosts", "conserver:cancelled:*"):
        account.left += sorted(key.decode() for key in client.keys(pattern))
    account.findings += [f"{key} is left" for key in account.left]


def _from_redis(client: Any, uuids: Iterable[str]) -> dict[str, dict[str, Any]]:
    names, found = list(uuids), {}
    for start in range(0, len(names), PAGE):
        page = names[start : start + PAGE]
        for uuid, body in zip(page, client.mget([f"vcon:{u}" for u in page]), strict=True):
            if body is not None:
                found[uuid] = json.loads(body)
    return found


def _documents(
    account: Account, ledger: Ledger, place: str, documents: dict[str, dict[str, Any]]
) -> None:
    """Every addition is in the documents of a place, once."""
    chains: Iterable[str] = EGRESS if place == "redis" else STORED_CHAINS
    for uuid, expected in ledger.vcons.items():
        document = documents.get(uuid)
        if document is None:
            if place == "redis" and expected.pushes:
                account.lost += 1
                account.findings.append(f"the document of {uuid} is not in Redis")
            continue
        faults = []
        for chain in chains:
            found, wanted = marks(document, chain), expected.pushes[chain]
            if found != wanted if expected.exact else wanted and not found:
                faults.append(f"{found} marks of chain {chain}, not {wanted}")
        transcripts = sum(one.get("type") == "transcript" for one in document["analysis"])
        if transcripts != expected.transcripts:
            faults.append(f"{transcripts} transcripts, not {expected.transcripts}")
        if expected.note and document.get("note") != expected.note:
            faults.append("not its producer's correction")
        if faults:
            account.wrong += 1
            account.findings.append(f"{uuid} in {place} has {', '.join(faults)}")
