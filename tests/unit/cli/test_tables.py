"""Tables: what a row becomes on a wide terminal, on a narrow one, and in a pipe."""

from __future__ import annotations

import contextlib
import io
import re

import pytest

from conserver.cli.output import note
from conserver.cli.tables import Marked, lines_of, screen

COLUMNS = ("age", "list", "uuid", "attempts", "error")
UUID = "0199e0a4-7c1e-8b3a-9f11-000000000003"
ROW = ("2 min", "calls", UUID, 12, "the answer was no, and it will be no for ever")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal with colours, whatever the tests run in."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def shown(width: int | None, *rows: tuple[object, ...], coloured: bool = False) -> list[str]:
    to = screen(Terminal() if width else io.StringIO())
    to.width = width or to.width
    lines = lines_of(to, COLUMNS, rows)
    return lines if coloured else [re.sub(r"\x1b\[\d+m", "", line).rstrip() for line in lines]


def test_a_pipe_has_a_line_per_row_and_no_blanks_at_its_end() -> None:
    """Whatever the length: `grep` and `awk` find everything in one line."""
    head, first, second = shown(None, ROW, ("", "calls", UUID, None, "x" * 600))
    assert head.split() == list(COLUMNS)
    assert first.split()[-1] == "ever"
    assert second.endswith("x" * 600)
    assert all(line == line.rstrip() for line in (head, first, second))


def test_numbers_stand_right_even_where_some_are_missing() -> None:
    """Digits of equal weight stand under each other."""
    head, first, second, _ = shown(None, ROW, ("", "calls", UUID, 7, ""), ("", "", "", "", ""))
    end = head.index("attempts") + len("attempts")
    assert (first[end - 2 : end], second[end - 2 : end]) == ("12", " 7")


def test_a_complaint_in_the_place_of_a_number_leaves_the_others_where_they_are() -> None:
    """One list of the wrong type, and the depths of all others would not be read so well."""
    wrong = ("", "calls", UUID, Marked("wrong type", "bad"), "")
    head, first, second = shown(None, ROW, wrong)
    end = head.index("attempts") + len("attempts")
    assert (first[end - 2 : end], second[:end].split()[-2:]) == ("12", ["wrong", "type"])
    head, first, _ = shown(None, ROW, ("", "calls", UUID, "many", ""))
    start = head.index("attempts")
    assert first[start : start + 2] == "12"  # Any other text makes it a column of texts.


def test_the_free_text_is_wrapped_in_its_own_column() -> None:
    """Where it has room: nothing goes beyond the screen, and nothing is lost."""
    lines = shown(100, ROW)
    assert len(lines) == 3
    assert max(len(line) for line in lines) <= 100
    assert lines[2].startswith(" " * lines[0].index("error"))
    assert " ".join(lines[1].split()[-8:] + lines[2].split()) in ROW[-1] + " "


def test_the_free_text_goes_under_its_row_where_it_has_no_room() -> None:
    """A uuid stays in one piece, to be copied; the text follows, indented."""
    head, row, *below = shown(70, ROW)
    assert head.split() == ["age", "list", "uuid", "attempts"]
    assert row.split() == ["2", "min", "calls", UUID, "12"]
    assert " ".join(line.strip() for line in below) == ROW[-1]
    assert all(line.startswith("    ") and len(line) <= 70 for line in below)


def test_a_very_narrow_terminal_keeps_two_columns() -> None:
    """The others follow by their names."""
    head, row, *below = shown(40, ROW)
    assert head.split() == ["age", "list"]
    assert row.split() == ["2", "min", "calls"]
    text = " ".join(line.strip() for line in below)
    assert text == f"uuid: {UUID}, attempts: 12, {ROW[-1]}"


def test_nothing_follows_a_row_that_has_nothing_more() -> None:
    """No empty lines."""
    assert len(shown(40, ("1 s", "calls", "", "", ""))) == 2


def test_a_producers_text_does_not_drive_the_terminal() -> None:
    """Control characters are shown, not obeyed."""
    for width in (None, 60, 200):
        text = "\n".join(shown(width, ("", "a\x1b[31mb", "\x9b2J", 1, "\x1b]0;title\x07 c\nd")))
        assert "\x1b" not in text
        assert "\x9b" not in text
        assert "\x07" not in text
        assert "a\\x1b[31mb" in text


def test_a_line_break_in_a_cell_is_a_space() -> None:
    """An error of several lines stays in its row, and is read as a sentence."""
    text = "\n".join(shown(None, ("", "calls", UUID, 1, "refused\n\tIs it up?\r\n at a\tb")))
    assert "refused Is it up? at a\\tb" in text


def test_wide_characters_take_two_columns() -> None:
    """What is under a name in Chinese still stands in its column."""
    head, first, second = shown(None, ("", "通話", UUID, 1, ""), ("", "call", UUID, 1, ""))
    assert head.index("uuid") == second.index(UUID) == first.index(UUID) + 2


def test_colour_is_for_terminals_that_want_it() -> None:
    """Marked cells and the head stand out; the columns stay where they are."""
    row = ("1 s", "calls", Marked("u", "bad"), Marked(3, "warning"), "e")
    plain, coloured = shown(80, row), shown(80, row, coloured=True)
    assert "\x1b" not in "".join(plain)
    assert "\x1b[31mu" in coloured[1]
    assert "\x1b[33m       3\x1b[0m" in coloured[1]
    assert re.sub(r"\x1b\[\d*m", "", coloured[1]) == plain[1]
    assert coloured[0].startswith("\x1b[1m")


def test_complaints_begin_in_colour() -> None:
    """On a terminal; the text is the same."""
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        with contextlib.redirect_stderr(stream):
            note("error: a: b\x1b")
            note("conserver: c")
    assert terminal.getvalue() == "\x1b[31merror\x1b[0m: a: b\\x1b\nconserver: c\n"
    assert file.getvalue() == "error: a: b\\x1b\nconserver: c\n"


def test_who_wants_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR, a dumb terminal, and whatever is no terminal."""
    row = ("1 s", "calls", Marked("u", "bad"), 3, "e")
    to = screen(io.StringIO())
    assert "\x1b" not in "".join(lines_of(to, COLUMNS, [row]))
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as environ:
            environ.setenv(name, value)
            assert "31m" not in "".join(shown(80, row, coloured=True))
