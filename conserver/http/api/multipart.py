"""multipart/form-data whose file goes straight to the upload store, however large it is.

Fields are kept in memory, within bounds; the one file is written as it arrives and never held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from conserver.http.api import bodies
from conserver.http.api.context import Context
from conserver.http.api.problems import ProblemError
from conserver.outbound.uploads import StoreError, Upload, Writer, new_id

FIELD_BYTES_MAX = 1 << 20
FIELDS_BYTES_MAX = 2 << 20
"""Of all fields together."""

PARTS_MAX = 100
HEADERS_MAX = 20
"""Of one part."""

HEAD_BYTES_MAX = 8 * 1024
WRITE_BYTES = 1 << 18
"""Pieces are gathered up to this size before a thread writes them."""


@dataclass
class Form:
    """What a form held. A name may occur several times."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    upload: Upload | None = None

    def one(self, name: str, default: str = "") -> str:
        """The last value of that name."""
        return self.fields.get(name, [default])[-1]


class _Parts:
    """Callbacks of the parser: they only note what came; `receive` does the work."""

    def __init__(self) -> None:
        self.events: list[tuple[str, bytes]] = []

    def callbacks(self) -> Any:
        """The parser's callbacks."""

        def note(kind: str) -> Any:
            return lambda data, start, end: self.events.append((kind, data[start:end]))

        def mark(kind: str) -> Any:
            return lambda: self.events.append((kind, b""))

        return {
            "on_part_begin": mark("begin"),
            "on_part_data": note("data"),
            "on_part_end": mark("end"),
            "on_header_field": note("header"),
            "on_header_value": note("value"),
            "on_header_end": mark("header_end"),
            "on_headers_finished": mark("headers_end"),
        }


class _Receiver:
    """Turns the parser's events into fields and an upload."""

    def __init__(self, context: Context, by: str, look: Callable[[Form], object]) -> None:
        self.form = Form()
        self._context, self._by, self._look = context, by, look
        self._headers: dict[str, str] = {}
        self._header, self._value = b"", b""
        self._name, self._filename, self._type = "", "", ""
        self._text = bytearray()
        self._parts = self._fields_bytes = 0
        self._writer: Writer | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    async def take(self, kind: str, data: bytes) -> None:
        """One event."""
        match kind:
            case "begin":
                self._headers, self._text = {}, bytearray()
                self._parts += 1
                if self._parts > PARTS_MAX:
                    raise ProblemError(422, f"a form has at most {PARTS_MAX} parts", "bad-form")
            case "header":
                self._header += data
            case "value":
                self._value += data
            case "header_end":
                name = self._header.decode("latin-1").lower()
                # As the parser of options wants it, which gives back the bytes.
                self._headers[name] = self._value.decode("latin-1")
                self._header, self._value = b"", b""
            case "headers_end":
                await self._begin()
            case "data":
                await self._data(data)
            case "end":
                await self._end()
        long = len(self._header) + len(self._value) > HEAD_BYTES_MAX
        if long or len(self._headers) > HEADERS_MAX:
            raise ProblemError(422, "the head of a part is too long", "bad-form")

    async def _begin(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" not in options:
            return
        if self.form.upload is not None or self._writer is not None:
            raise ProblemError(422, "a form holds one file", "bad-form")
        self._look(self.form)
        self._filename = options[b"filename"].decode("utf-8", "replace")
        self._type = self._headers.get("content-type", "application/octet-stream")
        self._writer = await asyncio.to_thread(self._context.uploads.begin, new_id())

    async def _data(self, data: bytes) -> None:
        if self._writer is None:
            self._text += data
            self._fields_bytes += len(data)
            if len(self._text) > FIELD_BYTES_MAX or self._fields_bytes > FIELDS_BYTES_MAX:
                raise ProblemError(413, f"the field `{self._name[:80]}` is too long", "too-large")
            return
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= WRITE_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        assert self._writer is not None
        data, self._pending, self._pending_bytes = b"".join(self._pending), [], 0
        if data:
            await asyncio.to_thread(self._writer.write, data)

    async def _end(self) -> None:
        if self._writer is None:
            text = self._text.decode("utf-8", "replace")
            self.form.fields.setdefault(self._name, []).append(text)
            return
        await self._flush()
        labels = (self._type, self._filename, self._by)
        self.form.upload = await self._context.transfer(self._writer.finish, *labels)
        self._writer = None

    @property
    def broken_off(self) -> bool:
        """Whether the body ended within the file."""
        return self._writer is not None

    async def abandon(self) -> None:
        """Nothing of it stays."""
        if self._writer is not None:
            self._writer.abandon()
        if self.form.upload is not None:
            await self._context.transfer(self._context.uploads.remove, self.form.upload.id)


async def receive(
    request: Request, context: Context, by: str, look: Callable[[Form], object]
) -> Form:
    """The form of a request.

    Args:
        by: the name of the token that sends it.
        look: called with the fields before the file, when that begins; what it raises refuses the
            request before anything of the file is kept.

    Raises:
        ProblemError: 413, 408, 422 or 507, or as `look`.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if not boundary:
        raise ProblemError(422, "multipart/form-data needs a boundary", "bad-form")
    parts, receiver = _Parts(), _Receiver(context, by, look)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        async for piece in bodies.chunks(request, context.settings.upload_max_bytes):
            parser.write(piece)
            events, parts.events = parts.events, []
            for kind, data in events:
                await receiver.take(kind, data)
        parser.finalize()
        if receiver.broken_off:
            raise ProblemError(422, "the form ends within its file", "bad-form")
    except FormParserError as error:
        await receiver.abandon()
        raise ProblemError(422, f"the form cannot be read: {error}", "bad-form") from None
    except OSError as error:
        await receiver.abandon()
        raise store_failed(error) from None
    except BaseException:
        await receiver.abandon()
        raise
    return receiver.form


def store_failed(error: OSError) -> ProblemError:
    """507: the folder takes no more; 503: the bucket cannot be used now."""
    if isinstance(error, StoreError):
        headers = {"Retry-After": "10"}
        return ProblemError(503, f"{error.strerror}; try again", "store-failed", headers)
    return ProblemError(
        507, f"the upload cannot be kept: {error.strerror}; tell an operator", "store-failed"
    )
