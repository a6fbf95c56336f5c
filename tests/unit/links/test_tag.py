"""tag: every way to write tags in the options, and what comes of them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from conserver.links import tag
from conserver.links.tag import Options
from conserver.testing.links import make_vcon, run_link
from tests import vcons


def options(tags: Any) -> Options:
    return Options.model_validate({"tags": tags})


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["iron", "maiden"], ["iron:iron", "maiden:maiden"]),
        (["team:blue", "a=b", "x:y:z"], ["team:blue", "a:b", "x:y:z"]),
        ({"source": "pbx", "vip": True, "n": 7}, ["source:pbx", "vip:true", "n:7"]),
        ([{"source": "pbx"}, {"name": "a", "value": "b"}], ["source:pbx", "a:b"]),
        ([" a : b ", 2026], ["a:b", "2026:2026"]),
    ],
)
def test_tags_are_added_in_order(tags: Any, expected: list[str]) -> None:
    assert run_link(tag, make_vcon(), {"tags": tags}).vcon.tag_texts() == expected


def test_a_second_run_changes_nothing() -> None:
    settings = options(["a:b", "c"])
    first = run_link(tag, make_vcon(), settings)
    assert first.changed
    assert not run_link(tag, first.vcon.dump(), settings).changed


@pytest.mark.parametrize(
    "tags", [[], {}, None, "iron", [""], [":b"], [None], [["a", "b", "c"]], [{"a:b": "c"}], 7]
)
def test_wrong_options_are_refused(tags: Any) -> None:
    with pytest.raises(ValidationError):
        options(tags)


def test_unknown_and_missing_options_are_refused() -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"tags": ["a"], "tag": "b"})
    with pytest.raises(ValidationError):
        Options.model_validate({})


def test_options_survive_their_own_json() -> None:
    """Under spawn they travel to the children as data."""
    settings = options(["a:b", "c"])
    assert Options.model_validate(settings.model_dump()) == settings
    assert Options.model_validate_json(settings.model_dump_json()) == settings


def test_a_signed_vcon_cannot_be_tagged() -> None:
    assert run_link(tag, vcons.raw("jws"), options(["a"])).outcome == "rejected"
