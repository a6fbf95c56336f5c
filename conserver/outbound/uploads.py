"""Recordings that were uploaded: files in one folder that the API writes and workers read.

A dialog names one as `upload:<id>`. An id has 32 hexadecimal digits by chance and nothing else, so
that no address leads out of the folder, and nobody guesses another caller's. A file is complete or
not there: it is written under another name and renamed.

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
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

SCHEME = "upload:"
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


class Writer:
    """An upload that arrives. `finish` makes it complete, `abandon` leaves nothing of it."""

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


def folder_of_process() -> Uploads:
    """The folder that this process's environment names; links know no settings."""
    return Uploads(os.environ.get("CONSERVER_UPLOAD_DIR", "").strip() or "./uploads")


class Uploads:
    """The folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def begin(self, upload_id: str) -> Writer:
        """Take an upload. Raises OSError: the folder cannot be made or written."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Writer(self.folder, upload_id)

    def find(self, upload_id: str) -> Upload | None:
        """A complete upload; None if there is none of that id."""
        if not is_id(upload_id):
            return None
        try:
            return Upload(**orjson.loads((self.folder / f"{upload_id}.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

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

    def _files(self) -> Iterator[Path]:
        with suppress(FileNotFoundError):
            for path in self.folder.iterdir():
                if is_id(path.name.lstrip(".")[:32]):
                    yield path
