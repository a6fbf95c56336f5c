"""read_documents with readers that open staged documents: what it takes, skips and writes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from conserver.errors import Cancelled, Rejected, Retry
from conserver.links.read_documents import COSTLY, READS_PAGES, Options, read_documents
from conserver.outbound.faults import FailedAttemptError
from conserver.testing.http_server import Reply, serving
from conserver.testing.links import make_vcon
from conserver.vcon import partial
from conserver.vcon.document import Vcon, encode_body
from storage.fields import notes
from tests.unit.links.stage import Context
from tests.unit.media.extraction.readers import StagedReaders, staged, staged_readers

PRIVATE = {"allow_private_addresses": True}


@pytest.fixture(scope="module")
def readers() -> Iterator[StagedReaders]:
    with staged_readers() as found:
        yield found


def document(content: bytes | None = None, **members: Any) -> dict[str, Any]:
    part = {"purpose": "contract", "mediatype": "application/pdf"}
    if content is not None:
        part |= {"encoding": "base64url", "body": encode_body(content)}
    return {**part, **members}


def read(
    vcon: Vcon, readers: StagedReaders, context: Context | None = None, **options: Any
) -> list[dict[str, Any]]:
    """Run the link; the analyses of the vCon."""
    told = Options.model_validate(options)
    assert read_documents(vcon, told, context or Context(), readers) is vcon
    return vcon.analysis


def test_it_asks_for_a_checkpoint_and_for_readers() -> None:
    assert COSTLY
    assert READS_PAGES


def test_the_text_of_an_attachment_page_by_page(readers: StagedReaders) -> None:
    context = Context()
    [analysis] = read(make_vcon(attachments=[document(staged("a", "b"))]), readers, context)
    assert analysis.pop("product").startswith("rapidocr ")
    assert analysis == {
        "type": "document_text",
        "attachment": 0,
        "vendor": "conserver",
        "schema": "conserver-document-text-1.0",
        "mediatype": "application/json",
        "encoding": "json",
        "body": {
            "format": "pdf",
            "page_count": 2,
            "language": "en",
            "confidence": 0.9,
            "pages": [
                {"page": 1, "text": "a", "source": "ocr", "confidence": 0.9, "language": "en"},
                {"page": 2, "text": "b", "source": "ocr", "confidence": 0.9, "language": "en"},
            ],
        },
    }
    assert context.shown == [(0, 2, "pages"), (1, 2, "pages"), (2, 2, "pages")]
    assert context.checkpoints == 1


def test_dialogs_are_read_too_and_nothing_twice(readers: StagedReaders) -> None:
    fax = {"type": "text", "parties": 0, **document(staged("fax"), mediatype="image/tiff")}
    talk = {"type": "text", "parties": 0, "body": "hello", "mediatype": "text/plain"}
    vcon = make_vcon(dialog=[talk, fax], attachments=[document(staged("a"))])
    first = read(vcon, readers)
    assert [(one.get("attachment"), one.get("dialog")) for one in first] == [(0, None), (None, 1)]
    assert len(read(vcon, readers)) == 2
    only = make_vcon(dialog=[fax], attachments=[document(staged("a"))])
    assert [one["dialog"] for one in read(only, readers, sections=["dialog"])] == [0]


def test_what_is_no_document_or_cannot_be_changed_is_left_alone(readers: StagedReaders) -> None:
    context = Context()
    vcon = make_vcon(attachments=[{"purpose": "tags", "body": ["a:b"]}, document()])
    assert read(vcon, readers, context) == []
    [(event, fields)] = context.log.at("info")
    assert (event, fields["attachment"]) == ("documents_skipped", 1)
    signed = Vcon.parse(b'{"payload": "e30", "signatures": [{"header": {"uuid": "0123"}}]}')
    assert read_documents(signed, Options(), Context(), readers) is signed


def test_a_bad_document_harms_no_other(readers: StagedReaders) -> None:
    context = Context()
    parts = [
        document(staged("a"), content_hash="sha512-" + encode_body(hashlib.sha512().digest())),
        document(staged("damaged")),
        document(b"x" * 101),
        document(staged("good")),
    ]
    vcon = make_vcon(attachments=parts)
    with pytest.raises(Rejected) as error:
        read(vcon, readers, context, max_bytes=100)
    reasons = error.value.reason.split("; attachment")
    assert "content_hash names" in reasons[0]
    assert "no page could be read; the page is damaged" in reasons[1]
    assert "101 bytes are more than max_bytes 100" in reasons[2]
    assert [one["attachment"] for one in vcon.analysis] == [3]
    events = [event for event, _ in context.log.at("warning")]
    assert events.count("document_unusable") == 3
    again = make_vcon(attachments=parts)
    found = read(again, readers, max_bytes=100, on_unusable="skip")
    assert [one["attachment"] for one in found] == [3]


def test_a_bad_page_is_named(readers: StagedReaders) -> None:
    context = Context()
    [analysis] = read(make_vcon(attachments=[document(staged("a", "damaged"))]), readers, context)
    page = analysis["body"]["pages"][1]
    assert page == {
        "page": 2,
        "text": "",
        "source": "none",
        "confidence": 0.0,
        "language": "und",
        "error": "the page is damaged",
    }
    [(event, fields)] = context.log.at("warning")
    assert (event, fields["attachment"], fields["page"]) == ("page_unreadable", 0, 2)


def test_a_document_by_its_url(readers: StagedReaders) -> None:
    content = staged("fetched")
    promised = "sha512-" + encode_body(hashlib.sha512(content).digest())
    with serving(Reply(body=content)) as server:
        part = document(url=server.url + "/a.pdf", content_hash=promised)
        [analysis] = read(make_vcon(attachments=[part]), readers, fetch=PRIVATE)
    assert analysis["body"]["pages"][0]["text"] == "fetched"


@pytest.mark.parametrize(
    ("status", "error"), [(503, Retry), (404, FailedAttemptError), (410, Rejected)]
)
def test_a_url_that_does_not_give_it(
    readers: StagedReaders, status: int, error: type[Exception]
) -> None:
    with serving(Reply(status)) as server:
        parts = [document(url=server.url), document(staged("other"))]
        vcon = make_vcon(attachments=parts)
        with pytest.raises(error):
            read(vcon, readers, fetch=PRIVATE)
    assert [one["attachment"] for one in vcon.analysis] == [1]


def test_our_own_network_is_not_asked(readers: StagedReaders) -> None:
    with pytest.raises(Rejected, match="our own networks"):
        read(make_vcon(attachments=[document(url="http://127.0.0.1/a.pdf")]), readers)


def test_what_was_read_before_a_crash_is_not_read_again(readers: StagedReaders) -> None:
    class Crash(Exception):
        pass

    class Crashing(Context):
        def progress(self, done: float, *rest: Any, **more: Any) -> None:
            super().progress(done, *rest, **more)
            if done == 4:
                raise Crash

        def checkpoint(self) -> None:
            super().checkpoint()
            saved.append(vcon.dump())

    saved: list[bytes] = []
    vcon = make_vcon(attachments=[document(staged(*"abcdef"))])
    options = {"checkpoint_pages": 1, "checkpoint_s": 0}
    with pytest.raises(Crash):
        read(vcon, readers, Crashing(), **options)
    again, context = Vcon.parse(saved[-1]), Context()
    kept = partial.kept(again, "document_text_progress", {"attachment": 0})
    assert kept is not None
    assert not list(notes(again.analysis)), "what is unfinished is not searched"
    [analysis] = read(again, readers, context)
    assert [page["text"] for page in analysis["body"]["pages"]] == list("abcdef")
    assert context.shown[0][0] == len(kept["pages"])
    [(event, fields)] = context.log.at("info")
    assert (event, fields["pages"]) == ("document_resumed", len(kept["pages"]))
    assert list(notes(again.analysis)) == ["a\n\nb\n\nc\n\nd\n\ne\n\nf"]


def test_it_ends_when_it_is_cancelled_or_its_time_is_over(readers: StagedReaders) -> None:
    vcon = make_vcon(attachments=[document(staged(*["slow"] * 50))])
    with pytest.raises(Cancelled):
        read(vcon, readers, Context(cancel_after=3))
    with pytest.raises(TimeoutError):
        read(vcon, readers, Context(left_s=0))
