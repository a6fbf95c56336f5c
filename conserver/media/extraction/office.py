"""Office texts: docx (ECMA-376) and odt (OASIS OpenDocument 1.3).

Both are zip archives with the text as XML. A page ends at a page break, or where the program that
saved the file has recorded the end of a page; other ends of pages are unknown.
"""

from __future__ import annotations

import io
import unicodedata
import zipfile
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import ParseError

from conserver.media.extraction import language
from conserver.media.extraction.pages import Limits, Page, Recognize, Refused

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
# ISO 29500 strict has another namespace for the same elements.
_W_STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_STYLE = "{urn:oasis:names:tc:opendocument:xmlns:style:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_FO = "{urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0}"
_BREAK = "\f"
_ODT_TYPE = b"application/vnd.oasis.opendocument.text"
_SPACES_MAX = 1000
# Text that Word stores outside the body. It is appended to the body in this order.
_DOCX_NOTES = ("word/footnotes.xml", "word/endnotes.xml")

Event = tuple[str, Any]


class OfficeText:
    """An office file, read whole."""

    def __init__(self, path: str, limits: Limits) -> None:
        """
        Raises:
            Refused: it is damaged, encrypted, no text document, or too large when unpacked.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                text = self._read(archive, limits)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, KeyError, OSError) as error:
            raise Refused(f"the office file is damaged: {str(error)[:200]}") from None
        except RuntimeError:  # Raised by zipfile for an encrypted entry.
            raise Refused("the office file is encrypted, and its password is not known") from None
        pages = [_clean(page) for page in text.split(_BREAK)]
        while len(pages) > 1 and not pages[-1]:
            pages.pop()
        self._pages = pages
        self.count = len(pages)
        if self.count > limits.pages:
            raise Refused(f"the office file has {self.count} pages; the limit is {limits.pages}")

    def _read(self, archive: zipfile.ZipFile, limits: Limits) -> str:
        names = set(archive.namelist())
        if "word/document.xml" in names:
            self.kind, self.language = "docx", ""
            body = "".join(_docx(_part(archive, "word/document.xml", limits)))
            notes = [
                "".join(_docx(_part(archive, name, limits)))
                for name in _DOCX_NOTES
                if name in names
            ]
            if "word/styles.xml" in names:
                self.language = _docx_language(_part(archive, "word/styles.xml", limits))
            return "\n".join([body, *(note for note in notes if note.strip())])
        if "mimetype" in names and "content.xml" in names:
            if not _part(archive, "mimetype", limits).startswith(_ODT_TYPE):
                raise Refused("the office file is no text: only docx and odt are read")
            self.kind, self.language = "odt", ""
            if "META-INF/manifest.xml" in names:
                manifest = _part(archive, "META-INF/manifest.xml", limits)
                if b"encryption-data" in manifest:
                    raise Refused("the office file is encrypted, and its password is not known")
            if "styles.xml" in names:
                self.language = _odt_language(_part(archive, "styles.xml", limits))
            return "".join(_odt(_part(archive, "content.xml", limits)))
        raise Refused("the archive is no office text: only docx and odt are read")

    def page(self, index: int, limits: Limits, recognize: Recognize) -> Page:
        """See `OpenDocument.page`."""
        text = self._pages[index]
        if not text:
            return Page()
        return Page(text, "office", 1.0, language.of(text, self.language or limits.language))

    def close(self) -> None:
        """Release it."""
        self._pages = []


def _part(archive: zipfile.ZipFile, name: str, limits: Limits) -> bytes:
    """One file of the archive, unpacked. The limit holds even if its announced size is false."""
    with archive.open(name) as file:
        content = file.read(limits.text_bytes + 1)
    if len(content) > limits.text_bytes:
        raise Refused(f"{name} unpacks to more than {limits.text_bytes} bytes")
    return content


def _events(content: bytes) -> Iterator[Event]:
    """("start" or "end", element) of the whole document.

    Raises:
        Refused: it is not XML, or has entities, which no office program writes.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    try:
        yield from iterparse(io.BytesIO(content), ("start", "end"))
    except DefusedXmlException as error:
        raise Refused(f"its XML is not safe to read: {type(error).__name__}") from None
    except (ParseError, ValueError, LookupError) as error:
        raise Refused(f"its XML is damaged: {error}") from None


_DOCX_WORDS = {"tab": "\t", "cr": "\n", "noBreakHyphen": "-"}


def _docx(content: bytes) -> Iterator[str]:
    """The text of a docx part; `_BREAK` where a page ends."""
    skipping = 0  # Depth within a fallback for old programs, which repeats the text before.
    fresh = True  # Nothing was yielded since the last break.
    for event, element in _events(content):
        if element.tag == _FALLBACK:
            skipping += 1 if event == "start" else -1
            continue
        name = element.tag.removeprefix(_W).removeprefix(_W_STRICT)
        if skipping or name == element.tag:
            continue
        if event == "end":
            if name == "t" and element.text:
                fresh = False
                yield element.text
            elif name in _DOCX_WORDS:
                yield _DOCX_WORDS[name]
            elif name == "p" or (name == "br" and _attribute(element, "type") != "page"):
                yield "\n"
            elif name == "tc":
                yield "\t"
        if _breaks_docx(event, name, element) and not fresh:
            fresh = True
            yield _BREAK
        if event == "end":
            element.clear()


def _breaks_docx(event: str, name: str, element: Any) -> bool:
    if event == "start":
        return name == "lastRenderedPageBreak"
    return name == "br" and _attribute(element, "type") == "page"


def _attribute(element: Any, name: str) -> str:
    return str(element.get(_W + name) or element.get(_W_STRICT + name) or "")


def _docx_language(content: bytes) -> str:
    """The language of the default style."""
    for _, element in _events(content):
        if element.tag in (f"{_W}lang", f"{_W_STRICT}lang"):
            return language.normal(_attribute(element, "val"))
    return ""


_ODT_PARAGRAPHS = (f"{_TEXT}p", f"{_TEXT}h")
_ODT_SKIPPED = (f"{_TEXT}tracked-changes", f"{_OFFICE}annotation")
_ODT_WORDS = {f"{_TEXT}tab": "\t", f"{_TEXT}line-break": "\n", f"{_TEXT}soft-page-break": _BREAK}


def _odt(content: bytes) -> Iterator[str]:
    """The text of an odt's content; `_BREAK` where a page ends."""
    breaking: set[str] = set()  # Styles whose paragraphs begin a page.
    breaks = False
    depth = skipping = 0  # Depth within paragraphs, and within elements without own text.
    for event, element in _events(content):
        tag = element.tag
        if event == "start":
            depth += tag in _ODT_PARAGRAPHS
            skipping += tag in _ODT_SKIPPED
            continue
        if tag == f"{_STYLE}paragraph-properties":
            breaks = element.get(f"{_FO}break-before") == "page"
        elif tag == f"{_STYLE}style":
            if breaks:
                breaking.add(str(element.get(f"{_STYLE}name")))
            breaks = False
        depth -= tag in _ODT_PARAGRAPHS
        skipping -= tag in _ODT_SKIPPED
        if depth:
            continue  # Do not free the element: its paragraph still needs its text.
        if not skipping:
            if element.get(f"{_TEXT}style-name") in breaking:
                yield _BREAK
            yield from _odt_text(element)
        element.clear()


def _odt_text(element: Any) -> Iterator[str]:
    """The text of a paragraph, or the white space for an element between paragraphs."""
    if element.tag == f"{_TABLE}table-cell":
        yield "\t"
    elif element.tag == f"{_TEXT}soft-page-break":
        yield _BREAK
    elif element.tag in _ODT_PARAGRAPHS:
        waiting: list[Any] = [element]
        while waiting:
            one = waiting.pop()
            if isinstance(one, str):
                yield one
                continue
            if one.tag == f"{_TEXT}s":
                yield " " * _count(one.get(f"{_TEXT}c"))
            yield _ODT_WORDS.get(one.tag, "")
            if one.tag not in _ODT_SKIPPED:
                for child in reversed(one):
                    waiting += [child.tail or "", child]
                waiting.append(one.text or "")
        yield "\n"


def _count(text: str | None) -> int:
    return min(int(text), _SPACES_MAX) if text and text.isdecimal() else 1


def _odt_language(content: bytes) -> str:
    """The language of the default style."""
    for _, element in _events(content):
        if spoken := element.get(f"{_FO}language"):
            country = element.get(f"{_FO}country") or ""
            return language.normal(f"{spoken}-{country}" if len(country) == 2 else spoken)
    return ""


def _clean(text: str) -> str:
    """The text without white space at line ends, and with at most one empty line in a row."""
    lines = [line.rstrip() for line in unicodedata.normalize("NFC", text).split("\n")]
    kept: list[str] = []
    for line in lines:
        if line or (kept and kept[-1]):
            kept.append(line)
    return "\n".join(kept).strip()
