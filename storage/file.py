"""Stores a vCon as a file with its original bytes, in folders by date.

    <path>/2025/03/04/<uuid>.json    the vCon (".json.gz" if compressed), as vcon-server names it
    <path>/.lookup/3f/<uuid>         a symbolic link to the file, to find it by its uuid alone
    <path>/.locks/3f                 a lock, held while a vCon of this bucket (3f) is replaced
    <path>/.new/                     files that are being written

A colon in a uuid is written `%3A`.

A file is written to .new, synced to the disk, and then renamed, so that no reader sees half a file.
A file's mtime is its revision. Conserver's revisions are times in microseconds since 1970, so the
mtime is also the time of the change. A copied or restored file has the mtime of the copy: newer
than its content, and older than the next revision.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import os
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import uuid4

from pydantic import BeforeValidator, Field

from storage.contract import Document, Outcome, Rejected, StorageOptions, Stored, Unavailable
from storage.fields import date_folder, file_name, is_safe_name

_LOCK_POLL_S = 0.005
# `open` deletes files in .new that are older than this: a crash has left them.
_ABANDONED_S = 3600
_NANOSECONDS = 1000
_COMPRESSION_LEVEL = 6
_MODE = re.compile(r"(0o?)?[0-7]{3,4}")
_OWNER, _ALL_MODES = 0o600, 0o7777
_SUFFIX, _COMPRESSED_SUFFIX = ".json", ".json.gz"


def _mode(value: object) -> object:
    """Permissions in octal. YAML reads `0o640` as text and `0640` as a number."""
    if isinstance(value, str):
        if not _MODE.fullmatch(value):
            raise ValueError("permissions are written in octal, such as 0o640")
        value = int(value.removeprefix("0o"), 8)
    if isinstance(value, int) and (value & _OWNER != _OWNER or value > _ALL_MODES):
        raise ValueError(
            f"the owner could not read and write with {value:#o}: write permissions in octal,"
            " such as 0o640"
        )
    return value


class Options(StorageOptions):
    """Where the files are, and how they are written."""

    path: Path = Field(default=Path("/data/vcons"), description="Folder of all files.")
    organize_by_date: bool = Field(
        default=True, description="Folders YYYY/MM/DD by created_at; else all in one folder."
    )
    compression: bool = Field(default=False, description="Compress with gzip.")
    fsync: bool = Field(
        default=True,
        description="Wait until the disk has them: else a power failure can lose the latest.",
    )
    max_file_size: int | None = Field(
        default=None, ge=1, description="Refuse larger vCons (bytes, before compression)."
    )
    file_permissions: Annotated[int | None, BeforeValidator(_mode)] = Field(
        default=None, description="Permissions of a file, such as 0o640; else as the umask says."
    )
    dir_permissions: Annotated[int | None, BeforeValidator(_mode)] = Field(
        default=None, description="Permissions of a folder, such as 0o750; else as the umask says."
    )


def prepare(options: Options) -> None:
    """Does nothing: files need no client."""


@dataclass(slots=True)
class _Draft:
    """A vCon in a temporary file, which is renamed to `target` later."""

    index: int
    uuid: str
    revision: int
    file: Path
    target: Path


class Storage:
    """A folder."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.place = str(options.path)
        self._options = options
        self._root = options.path
        self._new = self._root / ".new"
        self._suffix = _COMPRESSED_SUFFIX if options.compression else _SUFFIX
        self._folders: set[Path] = set()
        self._open = False

    def open(self) -> None:
        """Creates the folders, and checks that files can be written and keep their mtimes."""
        for name in (".new", ".lookup", ".locks"):
            self._make_folder(self._root / name)
        self._sweep()
        self._probe()
        self._open = True

    def close(self) -> None:
        """Nothing stays open between calls."""
        self._open = False
        self._folders.clear()

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        """Writes all to temporary files, syncs them to the disk, and renames each to its place."""
        self._opened()
        outcomes: list[Outcome] = [Unavailable("not tried")] * len(documents)
        deadline = time.monotonic() + self._options.timeout_s
        drafts: list[_Draft] = []
        for index, document in enumerate(documents):
            try:
                draft = self._draft(index, document)
            except OSError as error:
                outcomes[index] = Unavailable(_reason(error))
                continue
            if isinstance(draft, _Draft):
                drafts.append(draft)
            else:
                outcomes[index] = draft
        changed: set[Path] = set()
        for draft in drafts:
            try:
                if self._options.fsync:
                    _sync(draft.file)
                with self._locked(draft.uuid, deadline):
                    outcomes[draft.index] = self._place(draft, changed)
            except OSError as error:
                # Somebody may have deleted a folder: forget which ones exist.
                self._folders.clear()
                outcomes[draft.index] = Unavailable(_reason(error))
            finally:
                draft.file.unlink(missing_ok=True)
        if self._options.fsync:
            for folder in changed:
                _sync(folder)
        return outcomes

    def get(self, uuid: str) -> bytes | None:
        """Returns the file's content, uncompressed."""
        self._opened()
        while (file := self._find(uuid)) is not None:
            try:
                content = file.read_bytes()
            except FileNotFoundError:
                # Another writer has moved the file, because its date changed. Look again.
                continue
            return gzip.decompress(content) if file.suffix == ".gz" else content
        return None

    def delete(self, uuid: str) -> bool:
        """Deletes the file, then its symbolic link."""
        self._opened()
        if self._find(uuid) is None:
            return False
        with self._locked(uuid, time.monotonic() + self._options.timeout_s):
            file = self._find(uuid)
            if file is None:
                return False
            file.unlink(missing_ok=True)
            self._link(uuid).unlink(missing_ok=True)
        return True

    def ready(self) -> None:
        """Writes a small file."""
        self._opened()
        self._probe()

    def _opened(self) -> None:
        if not self._open:
            raise ConnectionError(f"the storage {self.name} is not open")

    def _draft(self, index: int, document: Document) -> _Draft | Outcome:
        """Writes a vCon to .new; or returns the outcome, if it is known without writing."""
        limit = self._options.max_file_size
        if not is_safe_name(document.uuid):
            return Rejected("the uuid cannot be a file's name")
        if limit is not None and len(document.body) > limit:
            return Rejected(f"larger than max_file_size: {len(document.body)} bytes")
        try:
            day = date_folder(document.data)
        except ValueError as error:
            return Rejected(f"not a JSON object: {error}")
        folder = self._root / day if day and self._options.organize_by_date else self._root
        target = folder / f"{file_name(document.uuid)}{self._suffix}"
        known = self._known(document.uuid, target)
        if known is not None and _revision(known) > document.revision:
            return Stored(superseded=True)
        content = document.body
        if self._options.compression:
            content = gzip.compress(content, _COMPRESSION_LEVEL, mtime=0)
        draft = _Draft(index, document.uuid, document.revision, self._aside(), target)
        self._write(draft.file, content, document.revision)
        return draft

    def _place(self, draft: _Draft, changed: set[Path]) -> Outcome:
        """Renames a draft to its target. The caller holds the vCon's lock."""
        known = self._known(draft.uuid, draft.target)
        if known is not None and _revision(known) > draft.revision:
            return Stored(superseded=True)
        self._make_folder(draft.target.parent)
        draft.file.rename(draft.target)
        changed.add(draft.target.parent)
        link = self._link(draft.uuid)
        there = os.path.relpath(draft.target, link.parent)
        if _link_text(link) != there:
            self._make_folder(link.parent)
            aside = self._aside()
            aside.symlink_to(there)
            # The link is not synced. If a power failure loses it, `_find` searches all folders.
            aside.rename(link)
        if known is not None and known != draft.target:
            # The vCon's date or the option `compression` has changed.
            known.unlink(missing_ok=True)
        return Stored()

    def _known(self, uuid: str, target: Path) -> Path | None:
        """The file that holds a vCon now: by its link, or `target` if a crash lost the link."""
        text = _link_text(self._link(uuid))
        if text is not None:
            linked = Path(os.path.normpath(self._link(uuid).parent / text))
            if linked.exists():
                return linked
        return target if target.exists() else None

    def _find(self, uuid: str) -> Path | None:
        if not is_safe_name(uuid):
            return None
        file = self._known(uuid, self._root / f"{file_name(uuid)}{self._suffix}")
        if file is None:
            # Files that vcon-server wrote have no link.
            pattern = f"{file_name(uuid)}{_SUFFIX}*"
            found = [*self._root.glob(pattern), *self._root.glob(f"*/*/*/{pattern}")]
            file = next((one for one in found if one.name.endswith((_SUFFIX, ".gz"))), None)
        return file

    def _link(self, uuid: str) -> Path:
        return self._root / ".lookup" / _bucket(uuid) / file_name(uuid)

    def _aside(self) -> Path:
        return self._new / uuid4().hex

    def _write(self, file: Path, content: bytes, revision: int) -> None:
        mode = self._options.file_permissions
        try:
            with file.open("xb") as writer:
                writer.write(content)
                writer.flush()
                if mode is not None:
                    os.fchmod(writer.fileno(), mode)
                when = revision * _NANOSECONDS
                os.utime(writer.fileno(), ns=(when, when))
        except BaseException:
            file.unlink(missing_ok=True)
            raise

    def _make_folder(self, folder: Path) -> None:
        """Makes a folder and its parents, and syncs them to the disk."""
        if folder in self._folders:
            return
        if not folder.is_dir():
            self._make_folder(folder.parent)
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                if self._options.dir_permissions is not None:
                    folder.chmod(self._options.dir_permissions)
            if self._options.fsync:
                _sync(folder.parent)
        self._folders.add(folder)

    @contextlib.contextmanager
    def _locked(self, uuid: str, deadline: float) -> Iterator[None]:
        """Holds the lock that all processes take for this vCon."""
        lock = os.open(self._root / ".locks" / _bucket(uuid), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            while not _try_lock(lock):
                if time.monotonic() > deadline:
                    raise TimeoutError(errno.ETIMEDOUT, "another process holds the lock")
                time.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(lock)

    def _probe(self) -> None:
        file = self._aside()
        try:
            self._write(file, b"-", 1)
            if _revision(file) != 1:
                raise OSError(errno.ENOTSUP, f"{self._root} keeps no times of files to the µs")
        finally:
            file.unlink(missing_ok=True)

    def _sweep(self) -> None:
        for file in self._new.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - file.lstat().st_ctime > _ABANDONED_S:
                    file.unlink()


def _bucket(uuid: str) -> str:
    """One of 256 names, so that links and locks are spread over as many folders and files."""
    return f"{zlib.crc32(uuid.encode()) & 0xFF:02x}"


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _revision(file: Path) -> int:
    return file.stat().st_mtime_ns // _NANOSECONDS


def _link_text(link: Path) -> str | None:
    try:
        return str(link.readlink())
    except FileNotFoundError:
        return None


def _sync(path: Path) -> None:
    """Syncs a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return f"{error.strerror or error}: {error.filename or 'a file'}"
