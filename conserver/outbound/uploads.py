"""Recordings that were uploaded: files in one folder that the API writes and workers read.

A dialog names one as `upload:<id>`. An id has 32 hexadecimal digits by chance and nothing else, so
that no address leads out of the folder, and nobody guesses another caller's. A file is complete or
not there: it is written under another name and renamed. Where a bucket is configured, they are
there instead (upload_bucket.py); `Store` is what both can do.

    <folder>/<id>          the content
    <folder>/<id>.json     {"mediatype", "filename", "bytes", "sha512", "created_at", "by"}
    <folder>/.<id>.<n>     while it arrives
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
        """How a dialog names it."""
        return SCHEME + self.id


def new_id() -> str:
    """An id that nobody guesses."""
    return secrets.token_hex(16)


def is_id(text: str) -> bool:
    """Whether `text` can be an id."""
    return _ID.fullmatch(text) is not None


def media_type(text: str) -> str:
    """A media type without its parameters; that of plain bytes where the text is none."""
    name = text.partition(";")[0].strip().lower()
    return name if _MEDIA_TYPE.fullmatch(name) else "application/octet-stream"


def base_name(text: str) -> str:
    """The last part of a path as a client's system writes it, without control characters."""
    last = re.split(r"[/\\]", text)[-1]
    return "".join(letter for letter in last if letter.isprintable())[:255]


@dataclass(frozen=True, slots=True)
class Offer:
    """What was said when an upload was announced. bytes: 0 where its size was not said.

    by: the name of the token. until: when its bytes must have come, in seconds since 1970.
    """

    by: str
    until: float
    mediatype: str = ""
    filename: str = ""
    bytes: int = 0


class StoreError(OSError):
    """The store cannot be used now. The message may be told to callers."""


class Writer(Protocol):
    """An upload that arrives. `finish` makes it complete, `abandon` leaves nothing of it."""

    def write(self, data: bytes) -> None:
        """Add a piece. Raises OSError: the disk is full."""

    def finish(self, mediatype: str, filename: str, by: str) -> Upload:
        """Make it complete. Raises OSError."""

    def abandon(self) -> None:
        """Leave nothing of it. Harmless after `finish`."""


class Pieces:
    """An opened content, piece by piece. Whoever gets one closes it, even if nothing was read."""

    def __init__(self, read: Callable[[], bytes], close: Callable[[], None]) -> None:
        """read: gives the next piece, b"" at the end."""
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
    """Where uploads are kept. Any thread may call any method; all raise StoreError."""

    def begin(self, upload_id: str) -> Writer:
        """Take an upload. Raises OSError: it cannot be written."""

    def find(self, upload_id: str) -> Upload | None:
        """A complete upload; None if there is none of that id."""

    def presigned(self, upload_id: str, offer: Offer) -> str:
        """A URL that takes the content by PUT without a token; "" where the API has to take it."""

    def adopt(self, upload_id: str, offer: Offer, most_bytes: int) -> Upload | None:
        """A complete upload, also one whose content came by a presigned URL and was not seen yet.

        Raises:
            ValueError: its content is larger than that; it was removed.
        """

    def read(self, upload_id: str, most_bytes: int) -> bytes:
        """The content, at most so much of it. Raises OSError: it is not there, or not readable."""

    def pieces(self, upload_id: str, first: int, last: int) -> Pieces:
        """The content from the byte `first` to `last`, both included. Raises OSError at once."""

    def whole(self, upload_id: str) -> Pieces:
        """All of the content. Raises OSError at once."""

    def remove(self, upload_id: str) -> None:
        """Forget it; harmless if there is none."""

    def sweep(self, keep_s: float) -> int:
        """Remove what is older, complete or not. Returns how many files went. Raises OSError."""

    def close(self) -> None:
        """Close the connections; the next call makes new ones."""


class FileWriter:
    """An upload that arrives in the folder."""

    def __init__(self, folder: Path, upload_id: str) -> None:
        self._folder, self._id = folder, upload_id
        self._path = folder / f".{upload_id}.{secrets.token_hex(4)}"
        self._note = Path(f"{self._path}.json")
        self._file = self._path.open("xb")
        self._sha512 = hashlib.sha512()
        self.bytes = 0

    def write(self, data: bytes) -> None:
        """Add a piece. Raises OSError: the disk is full."""
        self._file.write(data)
        self._sha512.update(data)
        self.bytes += len(data)

    def finish(self, mediatype: str, filename: str, by: str) -> Upload:
        """Make it complete. Raises OSError."""
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
        """Leave nothing of it. Harmless after `finish`."""
        self._file.close()
        self._path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


class Uploads:
    """The folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def begin(self, upload_id: str) -> FileWriter:
        """Take an upload. Raises OSError: the folder cannot be made or written."""
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
        """The API has to take it."""
        return ""

    def adopt(self, upload_id: str, offer: Offer, most_bytes: int) -> Upload | None:
        """As `find`: nothing comes on another way."""
        return self.find(upload_id)

    def read(self, upload_id: str, most_bytes: int) -> bytes:
        """The content, at most so much of it. Raises OSError."""
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
        """Where its content is. Raises ValueError for what is no id."""
        if not is_id(upload_id):
            raise ValueError("an upload's id has 32 hexadecimal digits")
        return self.folder / upload_id

    def remove(self, upload_id: str) -> None:
        """Forget it; harmless if there is none."""
        if is_id(upload_id):
            for name in (upload_id, f"{upload_id}.json"):
                (self.folder / name).unlink(missing_ok=True)

    def sweep(self, keep_s: float) -> int:
        """Remove what is older, complete or not. Returns how many files went."""
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
