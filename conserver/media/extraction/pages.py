"""The values that links and page readers exchange: limits of a document, and pages of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

Source = Literal["text_layer", "ocr", "office", "none"]


class Refused(Exception):
    """The document can never be read: it is damaged, encrypted, empty or beyond a limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a document, and options for reading its pages.

    Attributes:
        pages: a document with more pages is refused.
        image_pixels: a picture with more pixels is refused before it is decoded.
        text_bytes: an office file with more bytes of text, unpacked, is refused.
        page_characters: longer text of a page is cut.
        page_timeout_s: a page reader that needs more CPU time for a page is killed.
        detail_px: the longest side of the picture for OCR. A larger one makes smaller letters
            readable, and costs more time and memory.
        ocr: whether to recognize text in pictures.
        language: BCP 47, for pages whose language neither the file nor the text shows.
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
        source: the origin of the text: the PDF's text layer, OCR, an office file's text; "none" for
            a page without text.
        confidence: 0 to 1; 1 for text that does not come from OCR, 0 for a page without text.
        language: BCP 47; "und" if unknown.
        rotation: by how many degrees the picture was rotated clockwise for OCR.
        note: a remark, such as that the text was cut.
        error: why the page could not be read; then its text is empty.
    """

    text: str = ""
    source: Source = "none"
    confidence: float = 0.0
    language: str = "und"
    rotation: int = 0
    note: str = ""
    error: str = ""

    def dump(self) -> dict[str, Any]:
        """As JSON, without empty members."""
        found = asdict(self)
        return {name: value for name, value in found.items() if value or name in _ALWAYS}

    @classmethod
    def load(cls, found: Mapping[str, Any]) -> Page:
        """The inverse of `dump`."""
        return cls(**found)

    def cut(self, characters: int) -> Page:
        """The page with at most this many characters of text."""
        if len(self.text) <= characters:
            return self
        note = f"only the first {characters} of {len(self.text)} characters are kept"
        return replace(self, text=self.text[:characters], note=note)


_ALWAYS = ("text", "source", "confidence", "language")


class OpenDocument(Protocol):
    """A file that a page reader has opened.

    Attributes:
        kind: pdf, image, docx or odt.
        count: the number of pages.
        language: the declared language; "" for none.
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
    """The result of OCR for a picture. rotation: as in `Page`."""

    text: str
    confidence: float
    rotation: int = 0


Recognize = Callable[[Any, int], Recognized]
"""OCR of a picture, which is an array of height x width, or height x width x 3. The second argument
is the longest side, in pixels, to which the picture is reduced.
"""
