"""The result of a job that has extracted documents: their text, for API callers and callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson

from storage import reading


def document_result(vcon: Mapping[str, Any], wanted: str) -> bytes | None:
    """The extracted text of the documents in a vCon.

    Args:
        wanted: "text" for plain text, "json" for the text page by page.

    Returns:
        None if the vCon has no extracted documents, or `wanted` is another format.
    """
    read = list(reading.documents_of(vcon))
    if not read or wanted not in ("json", "text"):
        return None
    whole = "\n\n".join(filter(None, map(reading.document_text, read)))
    if wanted == "text":
        return f"{whole}\n".encode()
    found = [
        {
            **{name: part[name] for name in ("attachment", "dialog") if name in part},
            "pages": [asdict(page) for page in reading.document_pages(part)],
        }
        for part in read
    ]
    return orjson.dumps({"text": whole, "documents": found})
