"""Receives the file of a form, and holds it until its vCon is in the queue.

A file of up to CONSERVER_INLINE_BYTES stays in memory, because it becomes a part of its vCon. A
larger file is written to the store of uploads while it arrives. A small file is written there, too,
if the files of other requests occupy the whole `Room` of this process: this bounds the memory that
many callers at once can use.
"""

from __future__ import annotations

import asyncio
import hashlib
import time

from conserver.http.api.context import Context
from conserver.outbound.uploads import Upload, Writer, base_name, media_type, new_id
from conserver.vcon.document import encode_body

WRITE_BYTES = 1 << 18
"""Pieces are collected up to this size before a thread writes them to the store."""


class Incoming:
    """One file.

    Attributes:
        upload: the file's name, size and hash, once the file is complete; None before.
        body: the file's content as a vCon's body (base64url), if it was kept in memory; None if
            the content is in the store.
        needed: whether a job may refer to the content in the store; then `close` keeps it. The
            caller sets `needed` before it makes the job, because the call to Redis may succeed
            although its answer is lost.
    """

    def __init__(self, context: Context, by: str, expected_bytes: int) -> None:
        """
        Args:
            by: the name of the sender's token.
            expected_bytes: the Content-Length of the whole request; 0 if it has none.
        """
        self.upload: Upload | None = None
        self.body: str | None = None
        self.needed = False
        self._context, self._by = context, by
        self._in_store = expected_bytes > context.settings.inline_bytes + WRITE_BYTES
        self._labels = ("", "")
        self._pieces: list[bytes] = []
        self._pending_bytes = self._occupied_bytes = 0
        self._writer: Writer | None = None
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether the file's part of the form has begun."""
        return self._begun

    def begin(self, mediatype: str, filename: str) -> None:
        """The file's part has begun; its content follows."""
        self._begun, self._labels = True, (mediatype, filename)

    async def write(self, data: bytes) -> None:
        """Add a piece of the content. Raises OSError: the store does not take it."""
        self._pieces.append(data)
        self._pending_bytes += len(data)
        if self._in_store:
            if self._pending_bytes >= WRITE_BYTES:
                await self._flush()
            return
        small = self._pending_bytes <= self._context.settings.inline_bytes
        if small and self._context.room.take(len(data)):
            self._occupied_bytes += len(data)
        else:
            self._in_store = True
            await self._flush()

    async def finish(self) -> None:
        """The file is complete: set `upload`. Raises OSError: the store does not take the file."""
        if self._in_store:
            writer = await self._flush()
            finish = writer.finish
            self.upload = await self._context.transfer(finish, *self._labels, self._by)
        else:
            self.upload, self.body = await asyncio.to_thread(self._kept)

    async def close(self) -> None:
        """Free the memory, and remove the file from the store unless it is `needed`."""
        self._pieces, self.body = [], None
        self._context.room.give(self._occupied_bytes)
        self._occupied_bytes = 0
        if self._writer is None or self.needed:
            return
        if self.upload is None:
            await asyncio.to_thread(self._writer.abandon)
        else:
            await self._context.transfer(self._context.uploads.remove, self.upload.id)

    async def _flush(self) -> Writer:
        """Write the collected pieces to the store. Raises OSError."""
        if self._writer is None:
            self._writer = await asyncio.to_thread(self._context.uploads.begin, new_id())
            self._context.room.give(self._occupied_bytes)
            self._occupied_bytes = 0
        data, self._pieces, self._pending_bytes = b"".join(self._pieces), [], 0
        if data:
            await asyncio.to_thread(self._writer.write, data)
        return self._writer

    def _kept(self) -> tuple[Upload, str]:
        """The upload and the body of a file in memory. Runs in a thread; hashing frees the GIL."""
        content, self._pieces = b"".join(self._pieces), []
        sha512 = hashlib.sha512(content).hexdigest()
        mediatype, filename = self._labels
        upload = Upload(
            id="",
            mediatype=media_type(mediatype),
            filename=base_name(filename),
            bytes=len(content),
            sha512=sha512,
            created_at=round(time.time(), 3),
            by=self._by,
        )
        return upload, encode_body(content)
