"""Documents with a known text, as they come in: PDFs, scans, facsimiles, office files.

Used by `scripts/bench documents` and by the tests. Scans are drawn from a PDF with a standard font,
then spoiled as scanners and fax machines do, with a fixed seed.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

LINES = (
    "Service agreement between Harbour Lights Limited and Ms Eleanor Whitfield",
    "This agreement was signed on 14 March 2026 in Rotterdam, for a term of 24 months.",
    "The customer pays 1,249.50 euros each quarter, in advance, to NL91 ABNA 0417 1643 00.",
    "Either party may end the agreement with a notice of ninety days, in writing.",
    "1. The provider keeps the recordings of all calls for no longer than 180 days.",
    "2. Personal data are processed in Frankfurt and in Dublin, and nowhere else.",
    "3. A credit of 5% is granted for each full hour in which the service was not available.",
    "4. Questions are answered on working days from 8:30 to 17:45 at +31 20 555 0142.",
    "5. The first invoice has the number 2026-00417; it includes a set-up fee of 350 euros.",
    "6. Liability is limited to the fees of the last twelve months, except for negligence.",
    "7. Changes of this agreement need the signatures of both parties.",
    "The parties have read the annexes A to F and accept them as parts of this agreement.",
    "Signed for the provider: J. van der Berg, Head of Operations.",
    "Signed for the customer: Eleanor Whitfield, Managing Director.",
)
"""The text of one page."""

A4 = (595.28, 841.89)
_WHITE = 255


def pdf(
    pages: Sequence[Sequence[str]] = (LINES,), size_pt: float = 11, password: str = ""
) -> bytes:
    """A PDF with a text layer. password: to open it with."""
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    encryption = StandardEncryption(password) if password else None
    canvas = Canvas(buffer, pagesize=A4, encrypt=encryption, invariant=1)
    for lines in pages:
        _write(canvas, lines, 60, size_pt)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def columns(left: Sequence[str], right: Sequence[str], title: str) -> bytes:
    """A PDF with two columns below a title."""
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=1)
    canvas.setFont("Helvetica-Bold", 16)
    canvas.drawString(60, 790, title)
    # Drawn row by row, as a careless program does.
    for number, pair in enumerate(zip(left, right, strict=True)):
        for x, line in zip((60, 320), pair, strict=True):
            canvas.setFont("Helvetica", 10)
            canvas.drawString(x, 740 - number * 18, line)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def form(label: str, value: str) -> bytes:
    """A PDF with a field that is filled in."""
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=A4, invariant=1)
    canvas.drawString(60, 740, label)
    canvas.acroForm.textfield(name="field", value=value, x=160, y=730, width=300, height=24)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _write(canvas: Any, lines: Sequence[str], x: float, size_pt: float) -> None:
    text = canvas.beginText(x, A4[1] - 82)
    text.setFont("Helvetica", size_pt)
    text.setLeading(size_pt * 2)
    for line in lines:
        text.textLine(line)
    canvas.drawText(text)


def pdf_of_pictures(pictures: Sequence[Any]) -> bytes:
    """A PDF whose pages are pictures: a scan."""
    buffer = io.BytesIO()
    first, *others = (picture.convert("RGB") for picture in pictures)
    first.save(buffer, "PDF", resolution=150, save_all=True, append_images=others)
    return buffer.getvalue()


def drawn(content: bytes, dpi: float, page: int = 0) -> Any:
    """A page of a PDF as a gray picture."""
    import pypdfium2

    document = pypdfium2.PdfDocument(content)
    try:
        return document[page].render(scale=dpi / 72, grayscale=True).to_pil().convert("L")
    finally:
        document.close()


def scan(dpi: float = 300, size_pt: float = 11, lines: Sequence[str] = LINES) -> Any:
    """A clean scan."""
    return drawn(pdf([lines], size_pt), dpi)


def skewed_scan(dpi: float = 150, size_pt: float = 11, lines: Sequence[str] = LINES) -> Any:
    """A scan that lies 2.5 degrees askew, a little blurred, with noise."""
    from PIL import Image, ImageFilter

    picture = scan(dpi, size_pt, lines)
    picture = picture.rotate(2.5, Image.Resampling.BICUBIC, expand=True, fillcolor=_WHITE)
    return _noisy(picture.filter(ImageFilter.GaussianBlur(0.6)), 12)


def fax(size_pt: float = 11, lines: Sequence[str] = LINES) -> Any:
    """A facsimile in normal resolution: 204 x 98 dpi, one bit per pixel (ITU-T T.4)."""
    from PIL import Image

    picture = scan(408, size_pt, lines)
    picture = picture.rotate(0.4, Image.Resampling.BICUBIC, fillcolor=_WHITE)
    size = (round(picture.width * 204 / 408), round(picture.height * 98 / 408))
    picture = _noisy(picture.resize(size, Image.Resampling.LANCZOS), 10)
    return picture.point(lambda level: _WHITE if level > 150 else 0).convert("1")


def _noisy(picture: Any, deviation: float) -> Any:
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(417)
    levels = np.asarray(picture).astype(float)
    levels += random.normal(0, deviation, levels.shape)
    return Image.fromarray(levels.clip(0, 255).astype("uint8"))


def encoded(picture: Any, kind: str, **options: Any) -> bytes:
    """A picture as a file: PNG, JPEG, TIFF ..."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def fax_file(pictures: Sequence[Any]) -> bytes:
    """Facsimiles as one TIFF, as fax servers write them."""
    first, *others = pictures
    return encoded(
        first, "TIFF", save_all=True, append_images=others, compression="group4", dpi=(204, 98)
    )


def docx(pages: Sequence[Sequence[str]] = (LINES,), language: str = "en-GB") -> bytes:
    """A Word file with a page break after each page but the last."""
    paragraph = "<w:p><w:r><w:t>{}</w:t></w:r></w:p>"
    breaks = '<w:p><w:r><w:br w:type="page"/></w:r></w:p>'
    body = breaks.join("".join(paragraph.format(escape(line)) for line in lines) for lines in pages)
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    styles = f'<w:docDefaults><w:lang w:val="{language}"/></w:docDefaults>'
    return zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "word/document.xml": f"<w:document {space}><w:body>{body}</w:body></w:document>",
            "word/styles.xml": f"<w:styles {space}>{styles}</w:styles>",
        }
    )


def odt(pages: Sequence[Sequence[str]] = (LINES,)) -> bytes:
    """An OpenDocument text with a soft page break after each page but the last."""
    body = "<text:soft-page-break/>".join(
        "".join(f"<text:p>{escape(line)}</text:p>" for line in lines) for lines in pages
    )
    names = "urn:oasis:names:tc:opendocument:xmlns"
    content = (
        f'<office:document-content xmlns:office="{names}:office:1.0" '
        f'xmlns:text="{names}:text:1.0"><office:body><office:text>{body}</office:text>'
        "</office:body></office:document-content>"
    )
    return zipped({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})


def zipped(files: dict[str, str | bytes]) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def error_rate(wanted: str, found: str) -> float:
    """The character error rate: edits (Levenshtein) per character of the text that was printed.

    White space counts once between words: where lines end is no error.
    """
    wanted, found = _plain(wanted), _plain(found)
    before = list(range(len(found) + 1))
    for row, letter in enumerate(wanted, 1):
        now = [row]
        for column, other in enumerate(found, 1):
            changed = before[column - 1] + (letter != other)
            now.append(min(before[column] + 1, now[-1] + 1, changed))
        before = now
    return before[-1] / max(1, len(wanted))


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
