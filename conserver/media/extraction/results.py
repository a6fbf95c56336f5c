"""The `document_text` analysis: the text of a document, page by page.

    {"format": "pdf", "page_count": 2, "language": "en", "confidence": 0.98,
     "pages": [{"page": 1, "text": "...", "source": "ocr", "confidence": 0.98, "language": "en"},
               {"page": 2, "text": "", "source": "none", "confidence": 0.0, "language": "und",
                "error": "it takes longer than page_timeout_s (60 s)"}]}

storage.reading.document_pages reads it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from conserver.media.extraction.client import Extraction
from conserver.media.extraction.pages import Page
from storage.reading import DOCUMENT_TEXT

VENDOR = "conserver"
SCHEMA = "conserver-document-text-1.0"


def analysis(extraction: Extraction, reference: dict[str, int], product: str) -> dict[str, Any]:
    """The analysis, to add to the vCon. reference: {"dialog": 1} or {"attachment": 0}."""
    return {
        "type": DOCUMENT_TEXT,
        **reference,
        "vendor": VENDOR,
        "product": product,
        "schema": SCHEMA,
        "mediatype": "application/json",
        "encoding": "json",
        "body": body(extraction),
    }


def body(extraction: Extraction) -> dict[str, Any]:
    """The body of the analysis."""
    pages = extraction.pages
    return {
        "format": extraction.kind,
        "page_count": len(pages),
        "language": _language(pages) or extraction.language or "und",
        "confidence": _confidence(pages),
        "pages": [{"page": number, **page.dump()} for number, page in enumerate(pages, 1)],
    }


def _language(pages: tuple[Page, ...]) -> str:
    """The language of most of the text; "" if unknown."""
    characters: Counter[str] = Counter()
    for page in pages:
        if page.language != "und":
            characters[page.language] += len(page.text)
    return max(characters, key=characters.__getitem__) if characters else ""


def _confidence(pages: tuple[Page, ...]) -> float:
    """The mean confidence of all characters; 0 without text."""
    characters = sum(len(page.text) for page in pages)
    total = sum(page.confidence * len(page.text) for page in pages)
    return round(total / characters, 4) if characters else 0.0
