"""read_documents: reads the text of PDFs, pictures and office files in attachments and dialogs.

    read_documents:
      module: links.read_documents

For every attachment or dialog that is a document and has no `document_text` analysis yet, the link

1. takes the bytes from its body or url, and compares them with content_hash;
2. hands the bytes to the host's page readers (conserver.media.extraction), several pages at once,
   with a checkpoint every few pages of a long document;
3. adds a `document_text` analysis, and makes a checkpoint.

Only page readers open the file. If a page crashes its reader or exceeds its time, the analysis
names that page, and all other pages are read. If a document can never be read (damaged, encrypted,
empty, beyond a limit), all other documents are read first. Then the vCon is dead-lettered with a
reason for each unreadable document. With `on_unusable: skip` the reasons are logged instead, and
the chain continues. If a document cannot be fetched from its url, the item is tried again later.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from conserver.errors import Rejected
from conserver.links import LinkContext
from conserver.media.extraction import client, ocr, results
from conserver.media.extraction.client import Extraction, Following
from conserver.media.extraction.pages import Limits
from conserver.media.extraction.pool import Readers, pool
from conserver.outbound.contents import ContentAwayError, Faults, Place, content_of
from conserver.outbound.faults import FailedAttemptError
from conserver.outbound.fetch import FetchOptions
from conserver.outbound.fetch import prepare as prepare_fetching
from conserver.vcon import partial
from conserver.vcon.document import Vcon, indices, numbered
from conserver.vcon.media import is_document
from storage.reading import is_document_text

COSTLY = True
READS_PAGES = True

_PROGRESS = "document_text_progress"
# The packages that page readers import. `prepare` finds a missing one at the start.
_PACKAGES = ("pypdfium2", "PIL", "defusedxml", "rapidocr", "onnxruntime")


class Options(BaseModel):
    """Which documents are read, and what they may cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sections: tuple[Literal["attachments", "dialog"], ...] = Field(
        default=("attachments", "dialog"), min_length=1
    )
    ocr: bool = True
    detail_px: int = Field(default=2000, ge=500, le=6000)
    language: str = ""
    max_bytes: int = Field(default=104_857_600, gt=0)
    max_pages: int = Field(default=1000, gt=0)
    max_image_pixels: int = Field(default=100_000_000, gt=0)
    page_timeout_s: float = Field(default=60, gt=0, allow_inf_nan=False)
    checkpoint_pages: int = Field(default=5, gt=0)
    checkpoint_s: float = Field(default=5, ge=0, allow_inf_nan=False)
    fetch: FetchOptions = FetchOptions(max_bytes=104_857_600)
    on_unusable: Literal["reject", "skip"] = "reject"

    def limits(self) -> Limits:
        """The limits that page readers apply."""
        return Limits(
            pages=self.max_pages,
            image_pixels=self.max_image_pixels,
            page_timeout_s=self.page_timeout_s,
            detail_px=self.detail_px,
            ocr=self.ocr,
            language=self.language,
        )


def prepare(options: Options) -> None:
    """Check that the packages and the models exist. Only page readers import them.

    Raises:
        FileNotFoundError, ModuleNotFoundError: install 'conserver[documents]'.
    """
    for name in _PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"{name} is missing: install 'conserver[documents]'")
    ocr.model_files()
    prepare_fetching(options.fetch.ca_file)


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Read every document that has no extraction yet."""
    return read_documents(vcon, options, context, pool.readers())


def read_documents(vcon: Vcon, options: Options, context: LinkContext, readers: Readers) -> Vcon:
    """`run` with any page readers.

    Raises:
        Rejected: documents can never be read; the message has the place and the reason of each. All
            other documents have been read and checkpointed before.
        Retry: this machine or the server of a url cannot serve now.
        FailedAttemptError: the server of a url answered without the document.
        TimeoutError: the soft time limit was exceeded.
    """

    def warn(place: Place, reason: str) -> None:
        context.log.warning("document_unusable", **place, reason=reason)

    faults = Faults(context, skip=options.on_unusable == "skip", warn=warn)
    for place, part in list(_unread(vcon, options, context)):
        try:
            content = content_of(part, "document", options.fetch, context)
            if len(content) > options.max_bytes:
                raise Rejected(f"{len(content)} bytes are more than max_bytes {options.max_bytes}")
            extraction = _extract(vcon, place, content, options, context, readers)
        except Rejected as error:
            faults.unusable(place, error)
            continue
        except (ContentAwayError, FailedAttemptError) as error:
            faults.away(place, error)
            continue
        del content
        partial.forget(vcon, _PROGRESS, place)
        vcon.add_analysis(results.analysis(extraction, place, ocr.product()))
        context.checkpoint()
    faults.raise_if_any()
    return vcon


def _unread(
    vcon: Vcon, options: Options, context: LinkContext
) -> Iterator[tuple[dict[str, int], dict[str, Any]]]:
    """(place, part) of each document to read. Logs the reason for each document that it skips."""
    if vcon.form != "unsigned":
        context.log.debug("documents_skipped", reason="a signed or encrypted vCon stays as it is")
        return
    sections = {"attachments": ("attachment", vcon.attachments), "dialog": ("dialog", vcon.dialogs)}
    for section in options.sections:
        member, parts = sections[section]
        done = _read_already(vcon, member)
        for index, part in numbered(parts):
            place = {member: index}
            if not is_document(part):
                continue
            if index in done:
                context.log.debug("documents_skipped", **place, reason="it has an extraction")
            elif part.get("body") is None and not part.get("url"):
                context.log.info("documents_skipped", **place, reason="it has no body and no url")
            else:
                yield place, part


def _read_already(vcon: Vcon, member: str) -> set[int]:
    return {
        index
        for analysis in vcon.analysis
        if is_document_text(analysis)
        for index in indices(analysis.get(member))
    }


def _extract(
    vcon: Vcon,
    place: dict[str, int],
    content: bytes,
    options: Options,
    context: LinkContext,
    readers: Readers,
) -> Extraction:
    """Let page readers read one document."""
    began_s = time.monotonic()

    def pulse() -> None:
        context.check_cancelled()
        if context.remaining_s() == 0:
            raise TimeoutError("the time limit ran out while reading a document")

    def progress(done: int, total: int) -> None:
        context.progress(done, total, "pages", doing="reading")

    def failed(page: int, reason: str) -> None:
        context.log.warning("page_unreadable", **place, page=page, reason=reason)

    def keep(state: dict[str, Any]) -> None:
        partial.keep(vcon, _PROGRESS, place, state, results.VENDOR)
        context.checkpoint()

    kept = partial.kept(vcon, _PROGRESS, place)
    if kept:
        context.log.info("document_resumed", **place, pages=len(kept.get("pages", ())))
    every = options.checkpoint_pages, options.checkpoint_s
    following = Following(pulse, progress, failed, kept, keep, *every)
    extraction = client.read(content, options.limits(), following, readers)
    context.log.debug(
        "document_read",
        **place,
        kind=extraction.kind,
        pages=len(extraction.pages),
        recognized=sum(page.source == "ocr" for page in extraction.pages),
        duration_ms=round((time.monotonic() - began_s) * 1000),
    )
    return extraction
