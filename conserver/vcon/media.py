"""Decides which parts of a vCon are documents (PDFs, images, office files)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.reading import media_type

_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_ODT = "application/vnd.oasis.opendocument.text"
DOCUMENT_SUFFIXES = {
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".docx": _DOCX,
    ".odt": _ODT,
}
"""File suffix -> media type of a document."""

_OTHER_NAMES = ("application/x-pdf", "image/jpg", "image/pjpeg", "image/x-ms-bmp", "image/x-bmp")
_MEDIA_TYPES = frozenset((*DOCUMENT_SUFFIXES.values(), *_OTHER_NAMES))
_NO_NAME = (None, "", "application/octet-stream", "binary/octet-stream")
# How such files begin in base64: the characters that the file's magic number determines.
_BASE64 = ("JVBERi0", "iVBORw0KGgo", "/9j/", "_9j_", "SUkqA", "TU0AK", "R0lGOD")


def is_document(part: Mapping[str, Any]) -> bool:
    """Whether a dialog or an attachment is a document whose text can be extracted.

    Its media type decides. Without a media type, the suffix of its file name decides; without a
    file name, the first characters of its body.
    """
    kind = media_type(part)
    if kind not in _NO_NAME:
        return kind in _MEDIA_TYPES
    name = part.get("filename")
    if isinstance(name, str) and "." in name:
        return f".{name.rpartition('.')[2].lower()}" in DOCUMENT_SUFFIXES
    body = part.get("body")
    return isinstance(body, str) and body.startswith(_BASE64)
