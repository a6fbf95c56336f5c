"""How faults of a configuration are told: what is proposed, in which line, and all at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from conserver.config import file as configfile
from conserver.config import model as config
from conserver.config.validation import suggest
from conserver.errors import ConfigError, Problem


def problems_in(text: str) -> Sequence[Problem]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, {})
    return caught.value.problems


def test_a_list_that_has_wrong_entries_is_not_called_empty() -> None:
    """pydantic drops the wrong ones and counts what is left; the reader is told of them alone."""
    (problem,) = problems_in("chains: {a: {ingress_lists: ['DLQ:x']}}")
    assert problem.path == "chains.a.ingress_lists[0]"


def test_a_chain_without_lists_serves_nothing_and_is_no_error() -> None:
    """cfg-1: vcon-server's grammar allows it; a misspelt name of the option is an error still."""
    for lists in ("{}", "{ingress_lists: []}", "{ingress_lists: }"):
        parsed = config.parse(f"chains: {{a: {lists}, b: {{ingress_lists: [x]}}}}", {})
        (warning,) = parsed.warnings
        assert warning.path == "chains.a.ingress_lists"
        assert warning.message == "names no list, so this chain serves nothing"
        assert parsed.ingress == {"x": "b"}
    (warning,) = config.parse("chains: {a: {}}", {}).warnings
    assert warning.message == "no chain has `ingress_lists`, so no list is served"
    (problem,) = problems_in("chains: {a: {ingres_lists: [x]}}")
    assert "did you mean `ingress_lists`?" in problem.hint


def test_options_in_the_list_of_links_are_told_where_they_belong() -> None:
    """msg-4: as vcon-server's documentation has them."""
    text = "links: {analyze: {module: links.analyze}}\n"
    text += "chains: {c: {ingress_lists: [x], links: [{analyze: {prompt: hi}}]}}"
    (problem,) = problems_in(text)
    assert problem.path == "chains.c.links[0]"
    assert problem.message == (
        "must be a name such as `analyze`, not a mapping: options belong to the entry of that "
        "name under `links` or `storages`"
    )


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("links.tga", ["links.tag", "links.diet"], "did you mean `links.tag`?"),
        # What all begin with does not make them alike.
        ("links.script", ["links.diet", "links.tag"], "known: links.diet, links.tag"),
        ("call.eu", ["calls.eu", "orders.eu"], "did you mean `calls.eu`?"),
        ("anything", [], ""),
    ],
)
def test_suggestions(word: str, known: list[str], hint: str) -> None:
    """What is near is proposed; else all that there is."""
    assert suggest(word, known) == hint


def test_the_usable_part_of_a_wrong_file(tmp_path: Path) -> None:
    """Links and storages that are right by themselves and that a chain names."""
    path = tmp_path / "config.yml"
    path.write_text(
        "links: {a: {module: links.tag}, b: {modul: links.tag}, c: {module: links.tag}}\n"
        "storages: {s: {module: storage.file, options: {path: '${HOME:-x}'}}}\n"
        "chains: {x: {links: [a, b, nowhere], storages: [s], retries: many}}\n",
        encoding="utf-8",
    )
    part = config.usable_part(path, {})
    assert set(part.used_links) == {"a"}
    assert set(part.used_storages) == {"s"}
    path.write_text("chains: [", encoding="utf-8")
    with pytest.raises(ConfigError):
        config.usable_part(path, {})


def test_problems_found_later_get_their_lines(tmp_path: Path) -> None:
    """Those of modules and options: their line, or that of what they are missing in."""
    path = tmp_path / "config.yml"
    path.write_text("links:\n  a:\n    module: x\n    options:\n      b: 1\n", encoding="utf-8")
    found = configfile.located(
        [Problem("links.a.options.c", "is missing"), Problem("links.a.module", "m", "h")], path
    )
    assert [str(problem) for problem in found] == [
        "links.a.module: m (line 3; h)",
        "links.a.options.c: is missing (line 4)",
    ]
    assert configfile.located(found, tmp_path / "gone.yml") == found
