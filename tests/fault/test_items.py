"""Items that are wrong, each in a way of its own: its outcome is clear, and its neighbours live."""

from __future__ import annotations

import json
from typing import Any

import redis

from conserver.queue import dead_letters as deadletters
from conserver.queue import host_calls, script
from tests.daemon import Daemon, push, vcon
from tests.fault.scene import Scene, arrived, deaths, nothing_left

UUID = "0b1c2d3e-4f50-4a6b-8c7d-8e9fa0b1c2d3"
OTHER = "1b1c2d3e-4f50-4a6b-8c7d-8e9fa0b1c2d3"
MAX_PAYLOAD_BYTES = 100_000
MAX_DOCUMENT_BYTES = 400_000

# What is pushed -> words of the reason.
WRONG_PAYLOADS = {
    "{not json": "not JSON",
    "{}": "no uuid",
    "[]": "neither a uuid nor a vCon",
    "null": "neither a uuid nor a vCon",
    "12": "neither a uuid nor a vCon",
    "": "empty",
    "   ": "empty",
    '{"vcon": "0.4.0", "uuid": ""}': "uuid",
    '{"vcon": "0.4.0", "uuid": 7}': "uuid",
    UUID: "does not exist",
    json.dumps(vcon(UUID, parties={})): "parties",
    json.dumps(vcon(UUID, critical=["x-unheard-of"])): "x-unheard-of",
    json.dumps(vcon(UUID, note="x" * MAX_PAYLOAD_BYTES)): "bytes",
}
# What is stored at vcon:<UUID>, whose uuid is pushed -> words of the reason.
WRONG_DOCUMENTS = {
    b"{not json": "not JSON",
    b"[]": "not a vCon",
    b"null": "not a vCon",
    b"\xff\xfe": "not JSON",
    json.dumps(vcon(OTHER)).encode(): "another vCon",
    json.dumps(vcon(UUID, dialog="none")).encode(): "dialog",
    json.dumps(vcon(UUID, must_support=["x-unheard-of"])).encode(): "x-unheard-of",
    json.dumps(vcon(UUID, note="x" * MAX_DOCUMENT_BYTES)).encode(): "CONSERVER_MAX_DOCUMENT_BYTES",
}
LIMITS: dict[str, Any] = {
    "CONSERVER_MAX_PAYLOAD_BYTES": str(MAX_PAYLOAD_BYTES),
    "CONSERVER_MAX_DOCUMENT_BYTES": str(MAX_DOCUMENT_BYTES),
}


def test_wrong_payloads(scene: Scene, client: redis.Redis) -> None:
    daemon = scene.start(**LIMITS)
    for payload, words in WRONG_PAYLOADS.items():
        before = push(client, "in", [vcon()])
        client.rpush("in", payload)
        after = push(client, "in", [vcon()])
        letter = _only_letter(daemon, client)
        # A document that could be read lies at its key now, and its uuid stands for it.
        assert letter.payload in (payload.encode(), UUID.encode())
        assert letter.payload == payload.encode() or client.get(f"vcon:{UUID}") == payload.encode()
        assert words in letter.why["error"], payload
        _neighbours_live(daemon, client, before + after)
        _clear(client)


def test_wrong_documents(scene: Scene, client: redis.Redis) -> None:
    daemon = scene.start(**LIMITS)
    for body, words in WRONG_DOCUMENTS.items():
        before = push(client, "in", [vcon()])
        client.set(f"vcon:{UUID}", body)
        client.rpush("in", UUID)
        after = push(client, "in", [vcon()])
        letter = _only_letter(daemon, client)
        assert letter.payload == UUID.encode()
        assert words in letter.why["error"], body
        assert client.get(f"vcon:{UUID}") == body, "what is there is evidence"
        _neighbours_live(daemon, client, before + after)
        _clear(client)


def test_key_of_a_document_that_holds_a_hash(scene: Scene, client: redis.Redis) -> None:
    daemon = scene.start()
    before = push(client, "in", [vcon()])
    client.hset(f"vcon:{UUID}", "a", "b")
    client.rpush("in", UUID)
    letter = _only_letter(daemon, client)
    assert "hash" in letter.why["error"]
    client.rpush("in", json.dumps(vcon(UUID)))
    daemon.until(lambda: client.zcard("conserver:parked:in") == 1)
    assert daemon.event("wrong_type", vcon=UUID)["found"] == "hash"
    _neighbours_live(daemon, client, before, parked=True)
    client.delete(f"vcon:{UUID}")
    _wait_no_longer(client)
    daemon.until(lambda: arrived(client, [*before, UUID]))


def test_egress_list_that_is_a_string(scene: Scene, client: redis.Redis) -> None:
    """Nothing can be passed on: the items wait, with their work done, until somebody acts."""
    daemon = scene.start()
    client.set("out", "not a list")
    uuids = push(client, "in", [vcon() for _ in range(5)])
    daemon.until(lambda: client.zcard("conserver:parked:in") == 5)
    assert daemon.event("wrong_type", key="out")["found"] == "string"
    assert not client.exists("DLQ:in")
    assert not deaths(daemon)
    client.delete("out")
    _wait_no_longer(client)
    daemon.until(lambda: arrived(client, uuids))


def test_ingress_list_that_is_a_hash(scene: Scene, client: redis.Redis) -> None:
    """It cannot be read; the other lists of the same worker are served."""
    client.hset("in", "a", "b")
    daemon = scene.start(scene.config(ingress_lists=["in", "also"]))
    assert daemon.event("wrong_type", key="in")["found"] == "hash"
    uuids = push(client, "also", [vcon() for _ in range(5)])
    daemon.until(lambda: arrived(client, uuids))
    assert not deaths(daemon)
    client.delete("in")
    more = push(client, "in", [vcon()])
    daemon.until(lambda: arrived(client, [*uuids, *more]))


def test_dead_letter_list_that_is_a_string(scene: Scene, client: redis.Redis) -> None:
    """What cannot be buried waits; while it is so, nothing is claimed that might have to be."""
    daemon = scene.start()
    first = push(client, "in", [vcon()])
    daemon.until(lambda: arrived(client, first))
    client.set("DLQ:in", "not a list")
    push(client, "in", [vcon(subject="reject")])
    assert daemon.event("wrong_type", key="DLQ:in")["found"] == "string"
    assert not deaths(daemon)
    client.delete("DLQ:in")
    _wait_no_longer(client)
    assert _only_letter(daemon, client).why["reason"] == "rejected"
    last = push(client, "in", [vcon()])
    daemon.until(lambda: arrived(client, first + last))


def test_egress_of_one_item_among_many_is_wrong(scene: Scene, client: redis.Redis) -> None:
    """A batch of settles in which some lists are wrong settles the others."""
    config = scene.config()
    config["chains"]["bad"] = {
        **config["chains"]["main"],
        "ingress_lists": ["bad"],
        "egress_lists": ["broken"],
    }
    client.set("broken", "x")
    good = push(client, "in", [vcon() for _ in range(30)])
    push(client, "bad", [vcon() for _ in range(5)])
    daemon = scene.start(config)
    daemon.until(lambda: arrived(client, good))
    daemon.until(lambda: client.zcard("conserver:parked:bad") == 5)
    assert not deaths(daemon)


def test_same_uuid_pushed_twice_is_two_items(stored_scene: Scene, client: redis.Redis) -> None:
    daemon = stored_scene.start(workers=2)
    documents = [vcon() for _ in range(20)]
    uuids = push(client, "in", documents)
    client.rpush("in", *uuids)
    daemon.until(lambda: arrived(client, uuids * 2), 30)
    for found in _everywhere(stored_scene, client, uuids):
        assert len(found["analysis"]) == 2, "each item has added its mark"
    assert not deaths(daemon)
    assert nothing_left(client)


def test_equal_documents_pushed_whole_are_two_items(scene: Scene, client: redis.Redis) -> None:
    daemon = scene.start(workers=2)
    payload = json.dumps(vcon(UUID))
    client.rpush("in", *[payload] * 20)
    daemon.until(lambda: arrived(client, [UUID] * 20))
    assert nothing_left(client)


def test_two_chains_on_one_vcon(stored_scene: Scene, client: redis.Redis) -> None:
    config = stored_scene.config()
    config["chains"]["other"] = {
        **config["chains"]["main"],
        "ingress_lists": ["other"],
        "egress_lists": ["out-other"],
    }
    daemon = stored_scene.start(config, workers=2, CONSERVER_VCON_CONCURRENCY="4")
    uuids = push(client, "in", [vcon(subject="sleep:0.02") for _ in range(60)])
    client.rpush("other", *uuids)
    daemon.until(lambda: arrived(client, uuids), 40)
    daemon.until(lambda: arrived(client, uuids, "out-other"), 40)
    for found in _everywhere(stored_scene, client, uuids):
        chains = sorted(analysis["product"] for analysis in found["analysis"])
        assert chains == ["main", "other"]
    assert not deaths(daemon)
    assert not client.exists("DLQ:in")


def test_producer_replaces_a_document_while_it_runs(scene: Scene, client: redis.Redis) -> None:
    """What the producer wrote stays, with what the link has added."""
    daemon = scene.start(scene.config(["trouble", "mark"]))
    gate = scene.town.folder / "gate"
    (name,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    daemon.until(lambda: client.exists(f"runs:{name}"))
    client.set(f"vcon:{name}", json.dumps(vcon(name, note="corrected")))
    gate.touch()
    daemon.until(lambda: arrived(client, [name]))
    document = json.loads(client.get(f"vcon:{name}") or b"")
    assert document["note"] == "corrected"
    assert [analysis["product"] for analysis in document["analysis"]] == ["main"]


def test_document_deleted_while_it_runs_is_written_again(scene: Scene, client: redis.Redis) -> None:
    daemon = scene.start(scene.config(["trouble", "mark"]))
    gate = scene.town.folder / "gate"
    (name,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    daemon.until(lambda: client.exists(f"runs:{name}"))
    client.delete(f"vcon:{name}")
    gate.touch()
    daemon.until(lambda: arrived(client, [name]))
    assert client.exists(f"vcon:{name}")


def _only_letter(daemon: Daemon, client: redis.Redis) -> deadletters.DeadLetter:
    daemon.until(lambda: client.llen("DLQ:in") == 1)
    (letter,) = deadletters.scan(client, "in")
    assert letter.why["list"] == "in"
    return letter


def _neighbours_live(
    daemon: Daemon, client: redis.Redis, uuids: list[str], parked: bool = False
) -> None:
    daemon.until(lambda: arrived(client, uuids))
    assert client.llen("DLQ:in") == 1
    assert parked or nothing_left(client)
    assert not deaths(daemon)


def _clear(client: redis.Redis) -> None:
    """Take away what has come out, before the next item is pushed."""
    client.delete("out", "DLQ:in", "conserver:dead:in", f"vcon:{UUID}")


def _wait_no_longer(client: redis.Redis) -> None:
    """What is parked until an operator acts comes back now instead of in half a minute."""
    script.run(client, host_calls.promote("in", 100, everything=True))


def _everywhere(scene: Scene, client: redis.Redis, uuids: list[str]) -> list[dict[str, Any]]:
    """The documents of Redis and of every storage."""
    found = [json.loads(client.get(f"vcon:{name}") or b"{}") for name in uuids]
    for place in scene.town.places.values():
        held = place.documents(uuids)
        assert len(held) == len(uuids), place.name
        found += held.values()
    return found
