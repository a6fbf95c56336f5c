"""Documents with the true models, as links and storages meet them, and without any network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmark import papers

from conserver.media.extraction import client
from conserver.media.extraction.client import Following
from conserver.media.extraction.ocr import Ocr
from conserver.media.extraction.pages import Limits
from conserver.media.extraction.pool import OwnReaders
from conserver.testing.http_server import chat_reply, serving
from conserver.testing.links import make_vcon, run_link
from conserver.vcon.document import Vcon, encode_body
from storage import sqlite
from storage.contract import Document
from tests.helpers import eventually

LINES = papers.LINES[8:12]
TEXT = "\n".join(LINES)


@pytest.fixture(scope="module")
def readers() -> Iterator[OwnReaders]:
    found = OwnReaders(1)
    yield found
    found.close()


def pages(content: bytes, readers: OwnReaders, **limits: Any) -> list[Any]:
    return list(client.read(content, Limits(**limits), Following(), readers).pages)


def top(picture: Any) -> Any:
    """The upper part of a page, where its lines are: the rest takes time and has no text."""
    return picture.crop((0, 0, picture.width, round(picture.height * 0.24)))


def attachment(content: bytes, mediatype: str = "application/pdf") -> dict[str, Any]:
    body = {"body": encode_body(content), "encoding": "base64url"}
    return {"purpose": "contract", "party": 0, "mediatype": mediatype, **body}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("clean", 0.01), ("skewed", 0.02), ("fax", 0.02)])
def test_what_is_scanned_is_read_with_few_errors(
    readers: OwnReaders, name: str, most: float
) -> None:
    papers_by_name = {
        "clean": lambda: papers.pdf_of_pictures([top(papers.scan(150, lines=LINES))]),
        "skewed": lambda: papers.encoded(top(papers.skewed_scan(150, lines=LINES)), "PNG"),
        "fax": lambda: papers.fax_file([top(papers.fax(lines=LINES))]),
    }
    [page] = pages(papers_by_name[name](), readers)
    assert page.source == "ocr"
    assert page.language == "en"
    assert page.rotation == 0
    assert page.confidence > 0.9
    assert papers.error_rate(TEXT, page.text) <= most


@pytest.mark.slow
@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_page_that_lies_on_its_side_is_turned(readers: OwnReaders, turn: int) -> None:
    scan = top(papers.scan(100, lines=LINES)).rotate(turn, expand=True)
    [page] = pages(papers.encoded(scan, "PNG"), readers, detail_px=900)
    assert page.rotation == turn
    assert papers.error_rate(TEXT, page.text) < 0.02


@pytest.mark.slow
def test_two_scanned_columns(readers: OwnReaders) -> None:
    left = [f"Left line {number} of the contract text" for number in range(6)]
    right = [f"Right line {number} of the annex text" for number in range(6)]
    picture = top(papers.drawn(papers.columns(left, right, "Contract and annex"), 110))
    [page] = pages(papers.encoded(picture, "PNG"), readers)
    wanted = " ".join(["Contract and annex", *left, *right])
    assert papers.error_rate(wanted, page.text) < 0.02


def test_a_picture_without_text_has_none(readers: OwnReaders) -> None:
    from PIL import Image

    [page] = pages(papers.encoded(Image.new("L", (800, 600), 255), "PNG"), readers)
    assert (page.text, page.source, page.error) == ("", "none", "")


def test_a_document_with_many_pages(readers: OwnReaders) -> None:
    texts = [f"Page {number} of the contract" for number in range(500)]
    found = pages(papers.pdf([[text] for text in texts]), readers)
    assert [page.text for page in found] == texts


@pytest.mark.slow
def test_the_models_are_in_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is tried: rapidocr would fetch models that it misses."""

    class NoNetwork(socket.socket):
        def connect(self, address: Any) -> None:
            raise AssertionError(f"it connects to {address}")

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    import numpy as np

    before, socket.socket = socket.socket, NoNetwork  # type: ignore[misc]
    try:
        found = Ocr()(np.asarray(papers.scan(80, lines=LINES[:1])), 700)
    finally:
        socket.socket = before  # type: ignore[misc]
    assert papers.error_rate(LINES[0], found.text) < 0.1


def test_the_link_by_its_name_alone() -> None:
    """As a configuration names it, in a process without a supervisor."""
    parts = [attachment(papers.pdf([LINES, []])), attachment(papers.docx([LINES]), "x/y")]
    parts[1]["mediatype"] = "application/octet-stream"
    parts[1]["filename"] = "contract.docx"
    result = run_link("links.read_documents", make_vcon(attachments=parts))
    assert result.outcome == "done"
    assert [one["body"]["format"] for one in result.vcon.analysis] == ["pdf", "docx"]
    assert result.progress == (1, 1, "pages")


def read_vcon() -> Vcon:
    """A vCon whose contract was read."""
    vcon = make_vcon(attachments=[attachment(papers.pdf([LINES[:3], LINES[3:]]))])
    return run_link("links.read_documents", vcon).vcon


def test_a_language_model_is_asked_about_the_text() -> None:
    vcon = read_vcon()
    with serving(chat_reply("It is about fees.")) as server:
        options = {
            "model": "m",
            "base_url": server.url,
            "prompt": "Summarise.",
            "source": {"analysis_type": "document_text"},
        }
        result = run_link("links.analyze", vcon, options)
        again = run_link("links.analyze", result.vcon, options)
    [request] = server.requests
    assert "Liability is limited" in request.body.decode()
    assert not again.changed
    [summary] = [one for one in vcon.analysis if one["type"] == "summary"]
    assert (summary["attachment"], summary["body"]) == (0, "It is about fees.")
    assert "dialog" not in summary


def test_a_storage_that_searches_finds_the_text(tmp_path: Path) -> None:
    vcon = read_vcon()
    storage = sqlite.Storage("index", sqlite.Options(path=tmp_path / "vcons.db"))
    storage.open()
    try:
        storage.save_many([Document(vcon.uuid, vcon.dump(), 1)])
        assert [hit.uuid for hit in storage.search("negligence", 10, "").hits] == [vcon.uuid]
        assert not storage.search("text_layer", 10, "").hits
    finally:
        storage.close()


def test_own_readers_end_with_whoever_uses_them() -> None:
    readers = OwnReaders(2)
    assert [page.text for page in pages(papers.pdf([["a line"]]), readers)] == ["a line"]
    processes = list(readers._processes)
    readers.close()
    eventually(lambda: all(process.poll() == 0 for process in processes))
