"""Reads PDF files with PDFium: the text layer of a page if it is good, else OCR of its picture."""

from __future__ import annotations

import ctypes
import unicodedata
from pathlib import Path
from typing import Any, BinaryIO

from conserver.media.extraction import language, layout
from conserver.media.extraction.pages import Limits, Page, Recognize, Refused

# A text layer with a larger share of meaningless characters is not used.
_UNKNOWN_SHARE_MAX = 0.1
# A page that is mostly a picture and has less text than this is recognized by OCR.
_STAMP_CHARACTERS = 100
_PICTURE_SHARE = 0.4
_POINTS_PER_INCH = 72
_DPI_MAX = 300
# Columns are looked for on pages with this number of lines.
_COLUMN_LINES_MIN, _COLUMN_LINES_MAX = 8, 1000
# The depth of nested forms in which pictures are looked for.
_DEPTH_MAX = 4
_PASSWORD_ERROR = 4  # FPDF_ERR_PASSWORD
_SECURITY_ERROR = 5  # FPDF_ERR_SECURITY
_LANGUAGE_BYTES = 64


class PdfFile:
    """An open PDF."""

    kind = "pdf"

    def __init__(self, path: str, limits: Limits) -> None:
        """
        Raises:
            Refused: it needs a password, is damaged, or has no page or too many.
        """
        # PDFium gets a file object: the path of the shared memory cannot be opened again.
        self._file = Path(path).open("rb")  # noqa: SIM115 - closed with the document
        try:
            self._document = _open(self._file)
        except Refused:
            self._file.close()
            raise
        self.count = len(self._document)
        if not 0 < self.count <= limits.pages:
            pages = f"{self.count} pages; the limit is {limits.pages}" if self.count else "no page"
            self.close()
            raise Refused(f"the PDF has {pages}")
        self.language = _declared(self._document)
        if self._document.get_formtype():
            self._document.init_forms()

    def page(self, index: int, limits: Limits, recognize: Recognize) -> Page:
        """See `OpenDocument.page`."""
        import pypdfium2

        try:
            page = self._loaded(index)
        except pypdfium2.PdfiumError as error:
            raise Refused(f"the page is damaged: {error}") from None
        try:
            return self._read(page, limits, recognize)
        finally:
            page.close()

    def _loaded(self, index: int) -> Any:
        """A page. Its filled-in form fields become a part of its content, as in print."""
        page = self._document[index]
        if page.formenv is None:
            return page
        page.flatten()
        page.close()
        return self._document[index]

    def _read(self, page: Any, limits: Limits, recognize: Recognize) -> Page:
        layer = _clean(_text_of(page))
        spoken = language.of(layer, self.language or limits.language)
        from_layer = Page(layer, "text_layer", 1.0, spoken) if layer else Page()
        picture_share = _picture_share(page)
        if _is_good(layer, picture_share):
            return from_layer
        if not layer and not picture_share and not _draws(page):
            return Page()
        if not limits.ocr:
            return from_layer
        found = recognize(_drawn(page, limits.detail_px), limits.detail_px)
        if len(found.text) <= len(layer) and not _is_garbage(layer):
            return from_layer
        if not found.text:
            return Page()
        spoken = language.of(found.text, self.language or limits.language)
        return Page(found.text, "ocr", found.confidence, spoken, found.rotation)

    def close(self) -> None:
        """Release it."""
        self._document.close()
        self._file.close()


def _open(file: BinaryIO) -> Any:
    import pypdfium2

    try:
        return pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) in (_PASSWORD_ERROR, _SECURITY_ERROR):
            raise Refused("the PDF is encrypted, and its password is not known") from None
        raise Refused(f"the PDF is damaged: {error}") from None


def _text_of(page: Any) -> str:
    """The text layer, in the order of the file, or column by column if it has columns of prose."""
    reader = page.get_textpage()
    try:
        found = str(reader.get_text_range())
        count = reader.count_rects()
        # On a rotated page the coordinates of the lines would not fit.
        if page.get_rotation() or not _COLUMN_LINES_MIN <= count <= _COLUMN_LINES_MAX:
            return found
        boxes = [reader.get_rect(number) for number in range(count)]
        quads = [
            ((left, -top), (right, -top), (right, -bottom), (left, -bottom))
            for left, bottom, right, top in boxes
        ]
        texts = [reader.get_text_bounded(*box).strip() for box in boxes]
        return layout.text_in_columns(quads, texts) or found
    finally:
        reader.close()


def _clean(text: str) -> str:
    # PDFium marks a hyphen if its word continues on the next line.
    text = text.replace("\ufffe\r\n", "").replace("\ufffe", "").replace("\x02", "-")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return unicodedata.normalize("NFC", text).strip()


def _is_good(layer: str, picture_share: float) -> bool:
    """Whether the text layer can be used as the text of the page."""
    characters = sum(not one.isspace() for one in layer)
    if not characters or _is_garbage(layer):
        return False
    return characters >= _STAMP_CHARACTERS or picture_share < _PICTURE_SHARE


def _is_garbage(layer: str) -> bool:
    """Whether too many characters have no meaning, which subset fonts often cause."""
    seen = [one for one in layer if not one.isspace()]
    unknown = sum(one == "\ufffd" or unicodedata.category(one)[0] == "C" for one in seen)
    return bool(seen) and unknown / len(seen) > _UNKNOWN_SHARE_MAX


def _picture_share(page: Any) -> float:
    """The share of the page that pictures cover, 0 to 1."""
    import pypdfium2.raw as raw

    width, height = page.get_size()
    covered = 0.0
    for one in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=_DEPTH_MAX):
        left, bottom, right, top = one.get_bounds()
        covered += max(0.0, right - left) * max(0.0, top - bottom)
    return min(1.0, covered / (width * height)) if width * height > 0 else 0.0


def _draws(page: Any) -> bool:
    """Whether the page has any content, even only lines, because letters may be drawn as lines."""
    return next(iter(page.get_objects(max_depth=1)), None) is not None


def _drawn(page: Any, side_px: int) -> Any:
    """The page drawn in gray levels. side_px: the most pixels of its longest side."""
    longest = max(page.get_size())
    if not longest > 0:
        raise Refused("the page has no size")
    scale = min(_DPI_MAX / _POINTS_PER_INCH, side_px / longest)
    bitmap = page.render(scale=scale, grayscale=True)
    try:
        return bitmap.to_numpy().reshape(bitmap.height, bitmap.width).copy()
    finally:
        bitmap.close()


def _declared(document: Any) -> str:
    """The language in the document's catalog; "" if it names none."""
    import pypdfium2.raw as raw

    buffer = (ctypes.c_ushort * (_LANGUAGE_BYTES // 2))()
    length = raw.FPDFCatalog_GetLanguage(document.raw, buffer, _LANGUAGE_BYTES)
    if not 2 < length <= _LANGUAGE_BYTES:
        return ""
    return language.normal(bytes(buffer)[: length - 2].decode("utf-16-le", "replace"))
