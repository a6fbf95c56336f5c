"""Finds the kind of a file by its bytes, because media types and file names may be wrong."""

from __future__ import annotations

PDF, IMAGE, ZIP, OLE = "pdf", "image", "zip", "ole"

# How far into a file a PDF's header may be.
_PDF_HEADER_BYTES = 1024
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"GIF87a", b"GIF89a")


def kind_of(head: bytes) -> str:
    """The kind of a file by its first 1024 bytes: PDF, IMAGE, ZIP, OLE; "" for any other."""
    if b"%PDF-" in head[:_PDF_HEADER_BYTES]:
        return PDF
    if head.startswith(b"PK\x03\x04"):
        return ZIP
    if head.startswith(_OLE):
        return OLE
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return IMAGE if is_webp or head.startswith(_PICTURES) else ""
