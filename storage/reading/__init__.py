"""Reads the contents of a vCon: bodies, tags, transcripts, texts of documents, durations.

    content       bodies: encodings, media types, durations
    tags          the tags of attachments
    documents     the text of documents, page by page
    transcripts   the words of a dialog, in every format of transcript that is in use

No other code of the project reads these, so that links, storages, adapted modules and commands see
the same texts and tags. The package works on plain JSON values. It imports nothing from `conserver`
or from the storages; both import it. It never refuses a document: a value that cannot be read
counts as absent, or is reported to the caller as unreadable.
"""

from __future__ import annotations

from storage.reading.content import (
    NotBase64Error,
    decode_base64url,
    decode_body,
    duration_s,
    media_type,
    structured,
)
from storage.reading.documents import (
    DOCUMENT_TEXT,
    DocumentPage,
    document_pages,
    document_text,
    documents_of,
    is_document_text,
)
from storage.reading.tags import is_tags, tag_texts, tags_in, tags_of
from storage.reading.transcripts import (
    Said,
    Spoken,
    dialogs_of,
    is_transcript,
    message,
    shape_of,
    spoken,
    transcript_of,
)

__all__ = [
    "DOCUMENT_TEXT",
    "DocumentPage",
    "NotBase64Error",
    "Said",
    "Spoken",
    "decode_base64url",
    "decode_body",
    "dialogs_of",
    "document_pages",
    "document_text",
    "documents_of",
    "duration_s",
    "is_document_text",
    "is_tags",
    "is_transcript",
    "media_type",
    "message",
    "shape_of",
    "spoken",
    "structured",
    "tag_texts",
    "tags_in",
    "tags_of",
    "transcript_of",
]
