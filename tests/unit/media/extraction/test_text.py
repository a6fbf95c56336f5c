"""Kinds, languages, and the order of recognized lines."""

from __future__ import annotations

import math
from typing import Any

import pytest

from conserver.media.extraction import language, layout
from conserver.vcon.media import is_document


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        ({"mediatype": "application/pdf"}, True),
        ({"mimetype": "image/TIFF; x=1"}, True),
        ({"mediatype": "audio/wav", "filename": "a.pdf"}, False),
        ({"filename": "Fax 1.TIF"}, True),
        ({"mediatype": "application/octet-stream", "filename": "a.docx"}, True),
        ({"filename": "notes.txt", "body": "JVBERi0xLjcK"}, False),
        ({"body": "JVBERi0xLjcK"}, True),
        ({"body": "hello"}, False),
        ({"body": {"a": 1}}, False),
        ({"filename": 7}, False),
    ],
)
def test_which_parts_are_documents(part: dict[str, Any], wanted: bool) -> None:
    assert is_document(part) is wanted


@pytest.mark.parametrize(
    ("text", "declared", "wanted"),
    [
        ("The parties have read the annexes and accept them for the term of this", "", "en"),
        ("Der Vertrag wird auf zwei Jahre geschlossen und ist nicht kündbar", "", "de"),
        ("Le client paie le montant de la facture dans un délai de trente jours et", "", "fr"),
        ("The parties have read the annexes and accept them for the term", "en-GB", "en-GB"),
        ("Der Vertrag wird auf zwei Jahre geschlossen und ist nicht kündbar", "en-US", "de"),
        ("Whitfield 417", "nl", "nl"),
        ("Whitfield 417", "", "und"),
        ("", "", "und"),
        ("Η συμφωνία υπογράφηκε", "", "el"),
        ("Договор подписан", "", "und-Cyrl"),
        ("Договор подписан", "ru", "ru"),
        ("契約は署名されました", "", "ja"),
        ("合同已经签署", "", "zh"),
    ],
)
def test_languages(text: str, declared: str, wanted: str) -> None:
    assert language.of(text, declared) == wanted


@pytest.mark.parametrize(
    ("tag", "wanted"), [("EN_gb", "en-GB"), ("de", "de"), ("english please", ""), ("", "")]
)
def test_language_tags(tag: str, wanted: str) -> None:
    assert language.normal(tag) == wanted


def box(x: float, y: float, width: float, slope: float = 0.0) -> list[tuple[float, float]]:
    """A line of 20 pixels height; `slope` in radians, of the whole page."""
    corners = [(x, y), (x + width, y), (x + width, y + 20), (x, y + 20)]
    across, down = math.cos(slope), math.sin(slope)
    return [(a * across - b * down, a * down + b * across) for a, b in corners]


@pytest.mark.parametrize("slope", [0.0, 0.04, -0.04])
def test_words_of_one_row_stay_together_on_a_skewed_page(slope: float) -> None:
    quads, texts = [], []
    for row in range(10):
        for column, width in enumerate((500, 180)):
            quads.append(box(column * 700, row * 40, width, slope))
            texts.append(f"{row}.{column}")
    order = [7, 3, *[n for n in range(20) if n not in (3, 7)]]
    found = layout.text_of([quads[n] for n in order], [texts[n] for n in order])
    assert found.split("\n") == [f"{row}.0 {row}.1" for row in range(10)]


def test_columns_of_prose_and_what_stands_above_and_below() -> None:
    quads = [box(100, 0, 800)]
    texts = ["a title that spans the whole page"]
    for row in range(6):
        for column in range(2):
            quads.append(box(column * 500, 100 + row * 40, 440))
            texts.append(f"column {column} line {row} of some prose")
    quads.append(box(0, 400, 900))
    texts.append("a line below both of the columns")
    left, right = texts[1:13:2], texts[2:13:2]
    wanted = [texts[0], "\n".join(left), "\n".join(right), texts[13]]
    assert layout.text_of(quads, texts) == "\n\n".join(wanted)


def test_a_form_is_read_row_by_row() -> None:
    quads, texts = [], []
    for row, (label, value) in enumerate([("Name", "Ann Lee"), ("City", "Rotterdam")] * 4):
        quads += [box(0, row * 40, 80), box(400, row * 40, 200)]
        texts += [label, value]
    assert layout.text_in_columns(quads, texts) is None
    assert layout.text_of(quads, texts).split("\n")[:2] == ["Name Ann Lee", "City Rotterdam"]


def test_paragraphs_are_parted() -> None:
    ys = [0, 30, 60, 140, 170]
    found = layout.text_of([box(0, y, 400) for y in ys], list("abcde"))
    assert found == "a\nb\nc\n\nd\ne"


def test_no_lines_are_no_text() -> None:
    assert layout.text_of([], []) == ""
