"""The folder of uploads: complete or not there, and nothing outside of it."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from conserver.errors import Rejected, Retry
from conserver.outbound.fetch import FetchOptions, fetch
from conserver.outbound.uploads import Upload, Uploads, base_name, media_type, new_id
from tests.unit.links.stage import Context


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    """A folder that is made when it is needed."""
    return Uploads(tmp_path / "uploads")


def made(uploads: Uploads, content: bytes = b"sound") -> Upload:
    """A complete upload."""
    writer = uploads.begin(new_id())
    writer.write(content)
    return writer.finish("audio/wav; codecs=1", "a/b\\call.wav", "ann")


def test_an_upload_is_there_once_it_is_complete(uploads: Uploads) -> None:
    name = new_id()
    writer = uploads.begin(name)
    writer.write(b"so")
    writer.write(b"und")
    assert uploads.find(name) is None
    found = writer.finish("audio/wav", "call.wav", "ann")
    writer.abandon()
    assert uploads.find(name) == found
    assert found.sha512 == hashlib.sha512(b"sound").hexdigest()
    assert uploads.path(name).read_bytes() == b"sound"
    uploads.remove(name)
    uploads.remove(name)
    assert list(uploads.folder.iterdir()) == []


def test_an_abandoned_upload_leaves_nothing(uploads: Uploads) -> None:
    writer = uploads.begin(new_id())
    writer.write(b"x")
    writer.abandon()
    writer.abandon()
    assert list(uploads.folder.iterdir()) == []


def test_names_and_types_are_harmless(uploads: Uploads) -> None:
    found = made(uploads)
    assert (found.mediatype, found.filename) == ("audio/wav", "call.wav")
    assert base_name("a\r\nX: y") == "aX: y"
    assert media_type("text/html\r\nX: y") == "application/octet-stream"
    assert media_type("ä/b") == "application/octet-stream"
    assert media_type("Text/HTML; charset=utf-8; x") == "text/html"


def test_the_type_of_headerless_audio_keeps_rate_and_channels() -> None:
    assert media_type("audio/L16; Rate=16000;channels=2") == "audio/l16;rate=16000;channels=2"
    assert media_type('audio/pcm;sample_rate="8000"; bits=16') == 'audio/pcm;sample_rate="8000"'
    assert media_type("audio/pcm;rate=8000\r\nX: y;rate=٣;rate=") == "audio/pcm"
    assert media_type("audio/pcm" + ";rate=8000;rate = 8000" * 9) == "audio/pcm;rate = 8000"


@pytest.mark.parametrize("name", ["", "..", "../x", "0" * 31, "0" * 33, "A" * 32, "0" * 32 + "\n"])
def test_what_is_no_id(uploads: Uploads, name: str) -> None:
    assert uploads.find(name) is None
    with pytest.raises(ValueError, match="hexadecimal"):
        uploads.path(name)
    uploads.remove(name)


def test_old_ones_are_swept(uploads: Uploads) -> None:
    assert uploads.sweep(10) == 0
    old, young = made(uploads), made(uploads)
    half = uploads.begin(new_id())
    (uploads.folder / "note.txt").write_text("not ours")
    past = time.time() - 100
    for path in uploads.folder.iterdir():
        if path.name.startswith(old.id) or path.name.startswith("."):
            os.utime(path, (past, past))
    assert uploads.sweep(10) == 3
    assert uploads.find(old.id) is None
    assert uploads.find(young.id) == young
    assert (uploads.folder / "note.txt").exists()
    half.abandon()


def test_a_link_fetches_an_upload(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSERVER_UPLOAD_DIR", str(uploads.folder))
    one, context = made(uploads), Context()
    digest = bytes.fromhex(one.sha512)
    assert fetch(one.url, FetchOptions(), context, [("sha512", digest)]) == b"sound"
    with pytest.raises(Rejected, match="sha512"):
        fetch(one.url, FetchOptions(), context, [("sha512", b"x")])
    with pytest.raises(Rejected, match="max_bytes"):
        fetch(one.url, FetchOptions(max_bytes=4), context)
    with pytest.raises(Retry, match="CONSERVER_UPLOAD_DIR"):
        fetch(f"upload:{new_id()}", FetchOptions(), context)
    with pytest.raises(Rejected, match="hexadecimal"):
        fetch("upload:../../etc/passwd", FetchOptions(), context)
