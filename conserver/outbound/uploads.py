"""Keeps uploaded recordings in a folder. The API writes them, and workers read them.

A dialog names an upload by the url `upload:<id>`. An id is 32 random hexadecimal digits. So no url
leads out of the folder, and nobody can guess the id of another caller's upload. An upload is
written under another name and then renamed, so that an incomplete one is never seen. If a bucket is
configured, the uploads are in the bucket (upload_bucket.py). Both are a `Store`.

    <folder>/<id>          the content
    <folder>/<id>.json     {"mediatype", "filename", "bytes", "sha512", "created_at", "by"}
    <folder>/.<id>.<n>     an upload that is arriving
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import orjson

SCHEME = "upload:"
READ_BYTES = 1 << 18
"""Contents are read in pieces of this size."""

_ID = re.compile(r"[0-9a-f]{32}")
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")
_OF_SOUND = re.compile(r'(rate|sample_rate|channels) ?= ?("[0-9]{1,9}"|[0-9]{1,9})')


@dataclass(frozen=True, slots=True)
class Upload:
    """A complete upload. sha512 is in hex; created_at in seconds since 1970."""

    id: str
    mediatype: str
    filename: str
    bytes: int
    sha512: str
    created_at: float
    by: str = ""

    @property
    def url(self) -> str:
        """The `url` of a dialog with this upload."""
        return SCHEME + self.id


def new_id() -> str:
    """A random id, which nobody can guess."""
    return secrets.token_hex(16)


def is_id(text: str) -> bool:
    """Whether `text` can be an id."""
    return _ID.fullmatch(text) is not None


def media_type(text: str) -> str:
    """A media type; application/octet-stream if `text` is none. Of its parameters it has those that
    headerless audio needs, each once: `audio/l16;rate=16000;channels=2`.
    """
    name, *parameters = (part.strip() for part in text.lower().split(";"))
    if not _MEDIA_TYPE.fullmatch(name):
        return "application/octet-stream"
    kept = {found[1]: part for part in parameters if (found := _OF_SOUND.fullmatch(part))}
    return ";".join([name, *kept.values()])


def base_name(text: str) -> str:
    """The last part of a client's path (of any system), without control characters."""
    last = re.split(r"[/\\]", text)[-1]
    return "".join(letter for letter in last if letter.isprintable())[:255]


@dataclass(frozen=True, slots=True)
class Offer:
    """An announced upload.

    Attributes:
        by: the name of the API token.
        until: when the upload must be complete, in seconds since 1970.
        bytes: the announced size; 0 if none was given.
    """

    by: str
    until: float
    mediatype: str = ""
    filename: str = ""
    bytes: int = 0


class StoreError(OSError):
    """The store cannot be used now. Callers of the API may see the message."""


class Writer(Protocol):
    """An upload that is arriving. `finish` completes it, `abandon` removes it."""

    def write(self, data: bytes) -> None:
        """Add a piece. Raises OSError if the disk is full."""

    def finish(self, mediatype: str, filename: str, by: str) -> Upload:
        """Complete the upload. Raises OSError."""

    def abandon(self) -> None:
        """Remove the incomplete upload. Does nothing after `finish`."""


class Pieces:
    """Iterates over an open content. The caller must call `close`, even if it reads nothing."""

    def __init__(self, read: Callable[[], bytes], close: Callable[[], None]) -> None:
        """read: returns the next piece; b"" at the end."""
        self._read = read
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """The next piece."""
        if piece := self._read():
            return piece
        raise StopIteration


class Store(Protocol):
    """A folder or a bucket with uploads. Threads may share it. All methods may raise StoreError."""

    def begin(self, upload_id: str) -> Writer:
        """Begin to receive an upload. Raises OSError if it cannot be written."""

    def find(self, upload_id: str) -> Upload | None:
        """A complete upload; None if there is none of that id."""

    def presigned(self, upload_id: str, offer: Offer) -> str:
        """A URL that accepts the content by PUT without a token; "" if only the API accepts it."""

    def adopt(self, upload_id: str, offer: Offer, most_bytes: int) -> Upload | None:
        """The complete upload, also if its content came by a presigned URL; None if there is none.

        Raises:
            ValueError: the content is larger than `most_bytes`. It was removed.
        """

    def read(self, upload_id: str, most_bytes: int) -> bytes:
        """The first `most_bytes` of the content. Raises OSError if it is missing or unreadable."""

    def pieces(self, upload_id: str, first: int, last: int) -> Pieces:
        """The content from the byte `first` to `last`, both included. Raises OSError at once."""

    def whole(self, upload_id: str) -> Pieces:
        """All of the content. Raises OSError at once."""

    def remove(self, upload_id: str) -> None:
        """Remove the upload, if there is one."""

    def sweep(self, keep_s: float) -> int:
        """Remove uploads older than `keep_s`, complete or not. Returns how many files. Raises
        OSError.
        """

    def close(self) -> None:
        """Close the connections; the next call makes new ones."""


class FileWriter:
    """A Writer into the folder."""

    def __init__(self, folder: Path, upload_id: str) -> None:
        self._folder, self._id = folder, upload_id
        self._path = folder / f".{upload_id}.{secrets.token_hex(4)}"
        self._note = Path(f"{self._path}.json")
        self._file = self._path.open("xb")
        self._sha512 = hashlib.sha512()
        self.bytes = 0

    def write(self, data: bytes) -> None:
        """Add a piece. Raises OSError if the disk is full."""
        self._file.write(data)
        self._sha512.update(data)
        self.bytes += len(data)

    def finish(self, mediatype: str, filename: str, by: str) -> Upload:
        """Complete the upload. Raises OSError."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        digest, now_s = self._sha512.hexdigest(), round(time.time(), 3)
        made = Upload(
            self._id,
            media_type(mediatype),
            base_name(filename),
            self.bytes,
            digest,
            now_s,
            by,
        )
        self._note.write_bytes(orjson.dumps(asdict(made)))
        self._path.replace(self._folder / self._id)
        self._note.replace(self._folder / f"{self._id}.json")
        return made

    def abandon(self) -> None:
        """Remove the incomplete upload. Does nothing after `finish`."""
        self._file.close()
        self._path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


class Uploads:
    """A Store in a folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def begin(self, upload_id: str) -> FileWriter:
        """Begin to receive an upload. Raises OSError if the folder cannot be made or written."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return FileWriter(self.folder, upload_id)

    def find(self, upload_id: str) -> Upload | None:
        """A complete upload; None if there is none of that id."""
        if not is_id(upload_id):
            return None
        try:
            return Upload(**orjson.loads((self.folder / f"{upload_id}.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def presigned(self, upload_id: str, offer: Offer) -> str:
        """Returns "": only the API accepts uploads into a folder."""
        return ""

    def adopt(self, upload_id: str, offer: Offer, most_bytes: int) -> Upload | None:
        """The same as `find`, because all uploads come through the API."""
        return self.find(upload_id)

    def read(self, upload_id: str, most_bytes: int) -> bytes:
        """The first `most_bytes` of the content. Raises OSError."""
        with self.path(upload_id).open("rb") as file:
            return file.read(most_bytes)

    def pieces(self, upload_id: str, first: int, last: int) -> Pieces:
        """The content from the byte `first` to `last`, both included. Raises OSError at once."""
        file = self.path(upload_id).open("rb")
        file.seek(first)

        def read() -> bytes:
            return file.read(max(min(last + 1 - file.tell(), READ_BYTES), 0))

        return Pieces(read, file.close)

    def whole(self, upload_id: str) -> Pieces:
        """All of the content. Raises OSError at once."""
        return self.pieces(upload_id, 0, self.path(upload_id).stat().st_size - 1)

    def path(self, upload_id: str) -> Path:
        """The path of an upload's content. Raises ValueError if `upload_id` cannot be an id."""
        if not is_id(upload_id):
            raise ValueError("an upload's id has 32 hexadecimal digits")
        return self.folder / upload_id

    def remove(self, upload_id: str) -> None:
        """Remove the upload, if there is one."""
        if is_id(upload_id):
            for name in (upload_id, f"{upload_id}.json"):
                (self.folder / name).unlink(missing_ok=True)

    def sweep(self, keep_s: float) -> int:
        """Remove uploads older than `keep_s`, complete or not. Returns how many files."""
        oldest, removed = time.time() - keep_s, 0
        for path in self._files():
            with suppress(FileNotFoundError):  # another replica sweeps too
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    removed += 1
        return removed

    def close(self) -> None:
        """Nothing is open."""

    def _files(self) -> Iterator[Path]:
        with suppress(FileNotFoundError):
            for path in self.folder.iterdir():
                if is_id(path.name.lstrip(".")[:32]):
                    yield path
