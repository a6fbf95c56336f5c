"""Reads the text of documents, page by page, from analyses of the type `document_text`.

Conserver's link read_documents writes such analyses. Their body has `pages`, each with `text`.
Other programs write a text, or an object with only `text`: that is one page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from storage.reading.content import structured

DOCUMENT_TEXT = "document_text"


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """A page of a document. number: from 1. error: why the page could not be read."""

    number: int
    text: str
    source: str = ""
    confidence: float | None = None
    language: str = ""
    error: str = ""


def is_document_text(part: Any) -> bool:
    """Whether an analysis is the text of a document."""
    return isinstance(part, dict) and part.get("type") == DOCUMENT_TEXT


def document_pages(part: Mapping[str, Any]) -> list[DocumentPage]:
    """The pages of a `document_text` analysis; [] if its body has another format."""
    body = structured(part)
    if isinstance(body, str):
        return [DocumentPage(1, body)]
    if not isinstance(body, dict):
        return []
    pages = body.get("pages")
    if not isinstance(pages, list):
        text = body.get("text")
        return [DocumentPage(1, text)] if isinstance(text, str) else []
    return [_page(number, one) for number, one in enumerate(pages, 1)]


def document_text(part: Mapping[str, Any]) -> str:
    """The text of all pages, with an empty line between them."""
    return "\n\n".join(page.text for page in document_pages(part) if page.text.strip())


def documents_of(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The `document_text` analyses of a vCon."""
    analyses = document.get("analysis")
    for part in analyses if isinstance(analyses, list) else ():
        if is_document_text(part):
            yield part


def _page(number: int, found: Any) -> DocumentPage:
    if isinstance(found, str):
        return DocumentPage(number, found)
    if not isinstance(found, dict):
        return DocumentPage(number, "")
    own, confidence = found.get("page"), found.get("confidence")
    return DocumentPage(
        number=own if isinstance(own, int) and not isinstance(own, bool) else number,
        text=_text(found.get("text")),
        source=_text(found.get("source")),
        confidence=confidence if isinstance(confidence, int | float) else None,
        language=_text(found.get("language")),
        error=_text(found.get("error")),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
