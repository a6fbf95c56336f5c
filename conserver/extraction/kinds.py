"""Which kind of file some bytes are: labels are not believed."""

from __future__ import annotations

PDF, IMAGE, ZIP = "pdf", "image", "zip"

# How far into a file a PDF's header may be.
_PDF_HEADER_BYTES = 1024
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"GIF87a", b"GIF89a")


def kind_of(head: bytes) -> str:
    """The kind of a file (PDF, IMAGE or ZIP) by its first 1024 bytes; "" for any other."""
    if b"%PDF-" in head[:_PDF_HEADER_BYTES]:
        return PDF
    if head.startswith(b"PK\x03\x04"):
        return ZIP
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return IMAGE if is_webp or head.startswith(_PICTURES) else ""
