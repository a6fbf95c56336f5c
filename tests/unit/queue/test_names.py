"""The one name of an item: what a payload tells, however broken it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conserver.queue.dead_letters import DeadLetter
from conserver.queue.names import NAME_CHARS, name_of, name_of_element
from conserver.vcon.ids import usable_uuid, uuid8_of
from tests.queues import record

PRIVATE = b'{"parties":[{"tel":"+12025550199"}]}'


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (b"u1", "u1"),
        (b"u1#job", "u1"),
        (b"u1\n", "u1"),
        (b"a" * 128, "a" * 128),
        (b'{"parties":[{"tel":"+12025550199"}],"uuid":"u1"}', "u1"),
        (b'{"vcon":"0.4.0","uuid":"u1","dialog":"text"}', "u1"),
        (b'{"uuid": "u1","parties":[{"tel":"+1202', "u1"),
        (b'{"uuid":5}', "5"),
        (b'{"uuid":"../etc"}', uuid8_of(b'{"uuid":"../etc"}')),
        (PRIVATE, uuid8_of(PRIVATE)),
        (PRIVATE[:20], uuid8_of(PRIVATE[:20])),
        (b"no uuid at all", "no uuid at all"),
        (b"x y" * 70, ("x y" * 70)[: NAME_CHARS - 3] + "..."),
        (b"\x1b[31mred", "\ufffd[31mred"),
    ],
)
def test_a_payload_is_named_by_its_uuid_else_by_how_it_begins(payload: bytes, name: str) -> None:
    assert name_of(payload) == name
    assert name_of_element(record("c1.7.2", payload, "in")) == name
    assert DeadLetter("in", payload).name == name
    assert DeadLetter("in", payload, b"m", {"uuid": ""}).name == name


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda rest: b"{" + rest))
def test_any_payload_has_a_name_that_can_be_typed(payload: bytes) -> None:
    name = name_of(payload)
    assert name.isprintable()
    assert len(name) <= NAME_CHARS or usable_uuid(name)
    assert name_of_element(b"\x01" + payload).isprintable()


def test_a_dead_letter_that_an_older_version_has_named_is_found_by_its_uuid() -> None:
    assert DeadLetter("in", b"x y", b"m", {"uuid": "x y"}).name == "x y"
    assert DeadLetter("in", b"{}", b"m", {"uuid": "u1"}).name == "u1"
