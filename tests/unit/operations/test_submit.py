"""Documents onto a list: what is refused, and in what order they arrive."""

from __future__ import annotations

from typing import Any

import pytest

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.errors import InvalidArgumentError, OperationError, Rejected
from conserver.operations import jobs, lists, submit
from conserver.queue import keys
from tests.operators import beat, vcon

SETTINGS = Settings(max_document_bytes=200_000)


@pytest.mark.parametrize("size", [0, 100_000])
def test_a_document_is_written_and_pushed_as_a_job(server: Any, size: int) -> None:
    """Whatever its size, it is there for good, and what is pushed names its job."""
    raw = vcon("u-1", subject="x" * size)
    uuid, job = submit.put(server, "inbox", raw, settings=SETTINGS)
    assert uuid == "u-1"
    assert server.get(keys.document("u-1")) == raw
    assert server.ttl(keys.document("u-1")) == -1
    assert server.lrange("inbox", 0, -1) == [f"u-1#{job}".encode()]
    assert jobs.get(server, job).status == "queued"
    assert not list(server.scan_iter("conserver:incoming:*"))


def test_a_redis_that_is_full_refuses_by_name(server: Any) -> None:
    """What has no room is told; what was submitted before stays submitted."""
    server.config_set("maxmemory", 1)
    try:
        (one,) = submit.submit(server, "inbox", [("a", vcon("u-1"))], settings=SETTINGS, actor="me")
    finally:
        server.config_set("maxmemory", 0)
    assert (one.source, one.outcome, one.job) == ("a", "refused", "")
    assert "Redis is full" in one.detail
    assert not server.exists(keys.document("u-1"), "inbox")


@pytest.mark.parametrize(("raw", "text"), [(b"{}", "not a vCon"), (vcon("u-1"), "are more than")])
def test_what_a_worker_would_reject_is_refused(server: Any, raw: bytes, text: str) -> None:
    """And nothing is written."""
    with pytest.raises(Rejected, match=text):
        submit.put(server, "inbox", raw, settings=Settings(max_document_bytes=10))
    assert server.keys() == []


def test_each_document_has_its_outcome(server: Any) -> None:
    """In their order, one that could not be read among them."""
    documents: list[tuple[str, bytes | Rejected]] = [
        ("a", vcon("u-1")), ("b", Rejected("gone")), ("c", b"{}"), ("d", vcon("u-2"))
    ]  # fmt: skip
    found = list(submit.submit(server, "inbox", documents, settings=SETTINGS, actor="me"))
    outcomes = [(one.source, one.uuid, one.outcome) for one in found]
    assert outcomes == [
        ("a", "u-1", "submitted"), ("b", "", "refused"), ("c", "", "refused"),
        ("d", "u-2", "submitted"),
    ]  # fmt: skip
    assert found[1].detail == "gone"


def test_names_that_no_list_may_have() -> None:
    """Each face names the argument in its own way."""
    with pytest.raises(InvalidArgumentError) as caught:
        submit.check_name("DLQ:x")
    assert caught.value.named("--list").startswith("--list DLQ:x: the name of a list must not")
    assert submit.check_name("calls") == "calls"


def test_the_only_list_need_not_be_named() -> None:
    """One of several must be."""
    one = Config.model_validate({"chains": {"a": {"ingress_lists": ["x"]}}})
    assert submit.only_list(one, "f.yml") == "x"
    for lists_, text in ((["x", "y"], "x, y"), ([], "none")):
        chains = {"a": {"ingress_lists": lists_}} if lists_ else {}
        with pytest.raises(InvalidArgumentError) as caught:
            submit.only_list(Config.model_validate({"chains": chains}), "f.yml")
        assert caught.value.named("--list") == f"say which list with --list: f.yml has {text}"


def test_a_key_that_is_no_list(server: Any) -> None:
    """Is a conflict with what is there."""
    server.set("odd", "x")
    with pytest.raises(OperationError, match="odd is a string") as caught:
        submit.check_type(server, "odd")
    assert caught.value.kind == "conflict"
    submit.check_type(server, "nothing")


def test_what_redis_did_not_take_is_refused(server: Any) -> None:
    """A key may have become something else since it was looked at."""
    server.set("odd", "x")
    with pytest.raises(Rejected, match=r"Redis did not take it.*odd"):
        submit.put(server, "odd", vcon("u-1"), settings=SETTINGS)
    assert not list(server.scan_iter("vcon:*"))


def test_readiness(server: Any) -> None:
    """Whether a host serves the list, and whether it is paused."""
    assert submit.readiness(server, "inbox").hosts == 0
    beat(server)
    lists.pause(server, ["inbox"], actor="me")
    found = submit.readiness(server, "inbox")
    assert (found.hosts, found.served, found.paused, found.hint) == (1, True, True, "")
    found = submit.readiness(server, "inbux")
    assert (found.served, found.paused, found.hint) == (False, False, "did you mean `inbox`?")


PRETTY = b'{\n  "vcon": "0.4.0",\n  "uuid": "a"\n}'


@pytest.mark.parametrize(
    ("raw", "documents"),
    [
        (PRETTY, [PRETTY]),
        (b'{"a": 1}\n{"b": 2}\n', [b'{"a": 1}', b'{"b": 2}']),
        (PRETTY + b"\n\n" + PRETTY + b"\n", [PRETTY, PRETTY]),
        (PRETTY + PRETTY, [PRETTY, PRETTY]),
        (PRETTY + b"\nand more", [PRETTY + b"\nand more"]),
        (b"", [b""]),
        (b"\xff", [b"\xff"]),
    ],
)
def test_a_text_holds_one_document_or_several(raw: bytes, documents: list[bytes]) -> None:
    assert submit.split(raw) == documents
