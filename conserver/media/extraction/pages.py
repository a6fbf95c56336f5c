"""The values that travel between readers and links: what to do with a page, and what it said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

Source = Literal["text_layer", "ocr", "office", "none"]


class Refused(Exception):
    """The document can never be read: it is damaged, encrypted, empty or beyond a limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a document may cost, and how its pages are read.

    Attributes:
        pages: more are refused.
        image_pixels: a picture with more is refused before it is decoded.
        text_bytes: an office file that unpacks to more is refused.
        page_characters: a page's text is cut there.
        page_timeout_s: a reader that takes more of the CPU's time for one page is killed.
        detail_px: the longest side of the picture that is recognized; more finds smaller letters
            and costs more time and memory.
        ocr: whether pictures of text are read at all.
        language: BCP 47, for pages whose language neither the file nor its text tells.
    """

    pages: int = 1000
    image_pixels: int = 100_000_000
    text_bytes: int = 64 << 20
    page_characters: int = 200_000
    page_timeout_s: float = 60.0
    detail_px: int = 2000
    ocr: bool = True
    language: str = ""

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def load(cls, found: Mapping[str, Any]) -> Limits:
        """The inverse of `dump`."""
        return cls(**found)


@dataclass(frozen=True, slots=True)
class Page:
    """The text of one page.

    Attributes:
        source: where the text comes from: the PDF's own text, recognition, an office file's text;
            "none" for a page without any.
        confidence: 0 to 1; 1 for text that was not recognized, 0 for a page without text.
        language: BCP 47; "und" if it is not known.
        rotation: by how many degrees the picture was turned to the right to be read.
        note: what a reader of the result should know, such as that the text was cut.
        error: why the page could not be read; its text is empty then.
    """

    text: str = ""
    source: Source = "none"
    confidence: float = 0.0
    language: str = "und"
    rotation: int = 0
    note: str = ""
    error: str = ""

    def dump(self) -> dict[str, Any]:
        """As JSON; what says nothing is left out."""
        found = asdict(self)
        return {name: value for name, value in found.items() if value or name in _ALWAYS}

    @classmethod
    def load(cls, found: Mapping[str, Any]) -> Page:
        """The inverse of `dump`."""
        return cls(**found)

    def cut(self, characters: int) -> Page:
        """The page with at most so many characters."""
        if len(self.text) <= characters:
            return self
        note = f"only the first {characters} of {len(self.text)} characters are kept"
        return replace(self, text=self.text[:characters], note=note)


_ALWAYS = ("text", "source", "confidence", "language")


class OpenDocument(Protocol):
    """A file that a reader has open.

    Attributes:
        kind: pdf, image, docx or odt.
        count: how many pages it has.
        language: the one that it declares, "" if it declares none.
    """

    kind: str
    count: int
    language: str

    def page(self, index: int, limits: Limits, recognize: Recognize) -> Page:
        """Read one page, counted from 0.

        Raises:
            Refused: the page is damaged or beyond a limit.
        """

    def close(self) -> None:
        """Release it."""


@dataclass(frozen=True, slots=True)
class Recognized:
    """What was recognized in a picture. rotation: as in `Page`."""

    text: str
    confidence: float
    rotation: int = 0


Recognize = Callable[[Any, int], Recognized]
"""Reads a picture (an array of height x width, or height x width x 3) with at most so many pixels
along its longest side.
"""
