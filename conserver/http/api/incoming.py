"""The file of a form, from its first byte until its vCon is in the queue.

What becomes a part of its vCon (up to CONSERVER_INLINE_BYTES) is kept in memory and in no store. A
larger one goes to the store of uploads as it arrives. So does one that comes while others occupy
the `Room` of this process, so that the memory for many callers at once is bounded.
"""

from __future__ import annotations

import asyncio
import hashlib
import time

from conserver.http.api.context import Context
from conserver.outbound.uploads import Upload, Writer, base_name, media_type, new_id
from conserver.vcon.document import encode_body

WRITE_BYTES = 1 << 18
"""Pieces are gathered up to this size before a thread writes them to the store."""


class Incoming:
    """One file.

    Attributes:
        upload: what it is, once it is complete; None before.
        body: its content as a vCon's body has it (base64url), where it was kept in memory; else
            None, and the store has it.
        needed: whether a job may refer to what the store has. It is told before the job is made,
            because nobody knows what became of a call to Redis without an answer.
    """

    def __init__(self, context: Context, by: str, expected_bytes: int) -> None:
        """
        Args:
            by: the name of the token that sends it.
            expected_bytes: how large the whole request says that it is; 0 if it does not.
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
        """Whether it has begun to come."""
        return self._begun

    def begin(self, mediatype: str, filename: str) -> None:
        """Its first bytes follow."""
        self._begun, self._labels = True, (mediatype, filename)

    async def write(self, data: bytes) -> None:
        """Add a piece. Raises OSError: the store does not take it."""
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
        """It is complete. Raises OSError: the store does not take it."""
        if self._in_store:
            writer = await self._flush()
            finish = writer.finish
            self.upload = await self._context.transfer(finish, *self._labels, self._by)
        else:
            self.upload, self.body = await asyncio.to_thread(self._kept)

    async def close(self) -> None:
        """Nothing of it stays but what is needed."""
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
        """Write what is pending to the store. Raises OSError."""
        if self._writer is None:
            self._writer = await asyncio.to_thread(self._context.uploads.begin, new_id())
            self._context.room.give(self._occupied_bytes)
            self._occupied_bytes = 0
        data, self._pieces, self._pending_bytes = b"".join(self._pieces), [], 0
        if data:
            await asyncio.to_thread(self._writer.write, data)
        return self._writer

    def _kept(self) -> tuple[Upload, str]:
        """What was kept in memory, and its body. For a thread: hashing frees the interpreter."""
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
