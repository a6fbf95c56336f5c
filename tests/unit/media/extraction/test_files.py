"""Files of each kind, good and bad: how many pages, which text, or why not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from benchmark import papers

from conserver.media.extraction.pages import Limits, Page, Recognized, Refused
from conserver.media.extraction.reader import open_document
from tests.helpers import open_files

LINES = papers.LINES
TEXT = "\n".join(LINES)


class Eye:
    """Recognizes what it is told, and remembers the pictures."""

    def __init__(self, text: str = "recognized") -> None:
        self.text = text
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, picture: Any, _side_px: int) -> Recognized:
        self.shapes.append(picture.shape)
        return Recognized(self.text, 0.9)


def read(
    content: bytes, folder: Path, eye: Eye | None = None, **limits: Any
) -> tuple[str, str, list[Page]]:
    """(kind, language, pages) of a document."""
    path = folder / "document"
    path.write_bytes(content)
    told = Limits(**limits)
    document = open_document(str(path), told)
    try:
        pages = [document.page(index, told, eye or Eye()) for index in range(document.count)]
        return document.kind, document.language, pages
    finally:
        document.close()


def test_the_text_layer_of_a_pdf(tmp_path: Path) -> None:
    eye = Eye()
    kind, _, [page, blank] = read(papers.pdf([LINES, []]), tmp_path, eye)
    assert kind == "pdf"
    assert page == Page(TEXT, "text_layer", 1.0, "en")
    assert blank == Page()
    assert not eye.shapes, "neither is recognized"


def test_a_scan_in_a_pdf_is_drawn_and_recognized(tmp_path: Path) -> None:
    eye = Eye()
    scan = papers.pdf_of_pictures([papers.scan(100)])
    _, _, [page] = read(scan, tmp_path, eye, detail_px=1000)
    assert (page.text, page.source, page.confidence) == ("recognized", "ocr", 0.9)
    assert max(eye.shapes[0]) == 1000
    assert read(scan, tmp_path, ocr=False)[2] == [Page()]


def test_two_columns_are_read_one_after_the_other(tmp_path: Path) -> None:
    left = [f"on the left there is line {number}" for number in range(8)]
    right = [f"on the right there is line {number}" for number in range(8)]
    _, _, [page] = read(papers.columns(left, right, "A title across"), tmp_path)
    assert page.text == "\n\n".join(["A title across", "\n".join(left), "\n".join(right)])


def test_what_was_filled_into_a_form_is_text(tmp_path: Path) -> None:
    _, _, [page] = read(papers.form("Name:", "Eleanor Whitfield"), tmp_path)
    assert page.text.split() == ["Name:", "Eleanor", "Whitfield"]


def test_each_page_of_a_facsimile_gets_square_pixels(tmp_path: Path) -> None:
    eye = Eye()
    faxes = [papers.fax(), papers.fax()]
    kind, _, pages = read(papers.fax_file(faxes), tmp_path, eye, detail_px=6000)
    assert (kind, len(pages)) == ("image", 2)
    height, width = eye.shapes[0]
    assert height / width == pytest.approx(papers.A4[1] / papers.A4[0], rel=0.01)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
def test_pictures(kind: str, tmp_path: Path) -> None:
    from PIL import Image

    _, _, [page] = read(papers.encoded(Image.new("RGB", (300, 200), "white"), kind), tmp_path)
    assert page.source == "ocr"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_pictures_of_every_mode(mode: str, tmp_path: Path) -> None:
    from PIL import Image

    eye = Eye()
    read(papers.encoded(Image.new(mode, (300, 200)), "TIFF"), tmp_path, eye)
    assert eye.shapes == [(200, 300)]


def test_a_photograph_stands_upright(tmp_path: Path) -> None:
    from PIL import Image

    picture, eye = Image.new("L", (300, 200), 255), Eye()
    exif = picture.getexif()
    exif[0x0112] = 6  # It was taken with the camera on its side.
    read(papers.encoded(picture, "JPEG", exif=exif), tmp_path, eye)
    assert eye.shapes == [(300, 200)]


def test_office_texts(tmp_path: Path) -> None:
    pages = [LINES[:4], LINES[4:9], LINES[9:]]
    wanted = [Page("\n".join(lines), "office", 1.0, "en") for lines in pages]
    kind, language, found = read(papers.odt(pages), tmp_path)
    assert (kind, language, found) == ("odt", "", wanted)
    kind, language, found = read(papers.docx(pages), tmp_path)
    assert (kind, language) == ("docx", "en-GB")
    assert [page.text for page in found] == [page.text for page in wanted]


def test_a_word_file_with_all_sorts_of_things(tmp_path: Path) -> None:
    body = """<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r>
      <w:del><w:r><w:delText>deleted</w:delText></w:r></w:del></w:p>
      <w:tbl><w:tr><w:tc><w:p><w:r><w:t>cell</w:t></w:r></w:p></w:tc></w:tr></w:tbl>
      <w:p><w:r><w:br w:type="page"/></w:r></w:p>
      <w:p><w:r><w:lastRenderedPageBreak/><w:t>d</w:t></w:r></w:p>
      <mc:AlternateContent><mc:Choice><w:p><w:r><w:t>e</w:t></w:r></w:p></mc:Choice>
      <mc:Fallback><w:p><w:r><w:t>e</w:t></w:r></w:p></mc:Fallback></mc:AlternateContent>"""
    names = (
        'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
        'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    )
    note = f"<w:footnotes {names}><w:p><w:r><w:t>note</w:t></w:r></w:p></w:footnotes>"
    document = f"<w:document {names}><w:body>{body}</w:body></w:document>"
    content = papers.zipped({"word/document.xml": document, "word/footnotes.xml": note})
    _, _, pages = read(content, tmp_path)
    assert [page.text.split() for page in pages] == [["a", "b", "c", "cell"], ["d", "e", "note"]]


def _huge() -> bytes:
    from PIL import Image

    return papers.encoded(Image.new("1", (20_000, 20_000)), "PNG")


BAD = {
    "empty": (b"", "the document is empty"),
    "no document": (b"hello", "neither a PDF nor a picture nor an office text"),
    "broken PDF": (b"%PDF-1.7 and nothing else", "the PDF is damaged"),
    "cut PDF": (papers.pdf()[:400], "the PDF is damaged"),
    "encrypted PDF": (papers.pdf(password="secret"), "the PDF is encrypted"),
    "too many pages": (papers.pdf([[]] * 6), r"the PDF has 6 pages; the limit is 5"),
    "broken picture": (b"\x89PNG\r\n\x1a\n...", "the picture is damaged: it cannot be identified"),
    "cut picture": (papers.encoded(papers.scan(50), "PNG")[:500], "the picture is damaged"),
    "cut archive": (papers.docx()[:200], "the office file is damaged"),
    "another archive": (papers.zipped({"a.txt": "a"}), "the archive is no office text"),
    "a spreadsheet": (
        papers.zipped(
            {
                "mimetype": "application/vnd.oasis.opendocument.spreadsheet",
                "content.xml": "<a/>",
            }
        ),
        "is no text: only docx and odt",
    ),
    "an old or encrypted office file": (
        bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600),
        "encrypted or of an old format",
    ),
    "zip bomb": (papers.docx([["a" * 2_000_000]]), "unpacks to more than 1000000 bytes"),
    "zip bomb in a label": (
        papers.zipped({"mimetype": " " * 2_000_000, "content.xml": "<a/>"}),
        "mimetype unpacks to more than 1000000 bytes",
    ),
    "entity bomb": (
        papers.zipped({"word/document.xml": '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'}),
        "its XML is not safe to read",
    ),
    "broken XML": (papers.zipped({"word/document.xml": "<a><b></a>"}), "its XML is damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_says_why(name: str, tmp_path: Path) -> None:
    content, reason = BAD[name]
    with pytest.raises(Refused, match=reason):
        read(content, tmp_path, pages=5, text_bytes=1_000_000)


def test_a_picture_bomb_is_not_decoded(tmp_path: Path) -> None:
    wanted = "20000 x 20000 pixels; the limit is 100000000 in all"
    with pytest.raises(Refused, match=re.escape(wanted)):
        read(_huge(), tmp_path)


def test_a_huge_page_is_drawn_within_bounds(tmp_path: Path) -> None:
    """200 x 200 inches with a picture on it."""
    picture = papers.scan(20)
    content = papers.encoded(picture.convert("RGB"), "PDF", resolution=picture.width / 200)
    eye = Eye()
    _, _, [page] = read(content, tmp_path, eye)
    assert max(eye.shapes[0]) <= 2000
    assert page.source == "ocr"


def test_xml_that_is_nested_without_end(tmp_path: Path) -> None:
    deep = "<w:p>" * 50_000 + "</w:p>" * 50_000
    names = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    content = papers.zipped({"word/document.xml": f"<w:document {names}>{deep}</w:document>"})
    _, _, pages = read(content, tmp_path)
    assert pages == [Page()]


def test_nothing_stays_open(tmp_path: Path) -> None:
    before = open_files()
    for content in (papers.pdf(), papers.docx(), papers.fax_file([papers.fax()])):
        read(content, tmp_path)
    assert not open_files() - before
