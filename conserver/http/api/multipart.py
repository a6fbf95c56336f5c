"""Reads multipart/form-data: fields, which stay in memory up to a limit, and one file, which
incoming.py receives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from conserver.http.api import bodies
from conserver.http.api.context import Context
from conserver.http.api.incoming import Incoming
from conserver.http.api.problems import ProblemError
from conserver.outbound.uploads import StoreError, Upload
from conserver.telemetry import log

FIELD_BYTES_MAX = 1 << 20
FIELDS_BYTES_MAX = 2 << 20
"""The most bytes of all fields together."""

PARTS_MAX = 100
HEADERS_MAX = 20
"""The most headers of one part."""

HEAD_BYTES_MAX = 8 * 1024


@dataclass
class Form:
    """The fields and the file of a form. A field's name may occur several times."""

    file: Incoming
    fields: dict[str, list[str]] = field(default_factory=dict)

    @property
    def upload(self) -> Upload | None:
        """The form's file, once it is complete; None if the form has no file."""
        return self.file.upload

    def one(self, name: str, default: str = "") -> str:
        """The last value of the field `name`."""
        return self.fields.get(name, [default])[-1]


class _Parts:
    """Callbacks of the parser. They only collect events, which `_Receiver` then processes."""

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
    """Turns the parser's events into fields and a file."""

    def __init__(self, form: Form, look: Callable[[Form], object]) -> None:
        self._form, self._look = form, look
        self._headers: dict[str, str] = {}
        self._header, self._value = b"", b""
        self._name = ""
        self._text = bytearray()
        self._parts = self._fields_bytes = 0
        self.in_file = False

    async def take(self, kind: str, data: bytes) -> None:
        """Process one event of the parser."""
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
        file = self._form.file
        if file.begun:
            raise ProblemError(422, "a form holds one file", "bad-form")
        self._look(self._form)
        filename = options[b"filename"].decode("utf-8", "replace")
        file.begin(self._headers.get("content-type", "application/octet-stream"), filename)
        self.in_file = True

    async def _data(self, data: bytes) -> None:
        if self.in_file:
            await self._form.file.write(data)
            return
        self._text += data
        self._fields_bytes += len(data)
        if len(self._text) > FIELD_BYTES_MAX or self._fields_bytes > FIELDS_BYTES_MAX:
            raise ProblemError(413, f"the field `{self._name[:80]}` is too long", "too-large")

    async def _end(self) -> None:
        if self.in_file:
            await self._form.file.finish()
            self.in_file = False
        else:
            text = self._text.decode("utf-8", "replace")
            self._form.fields.setdefault(self._name, []).append(text)


@asynccontextmanager
async def received(
    request: Request, context: Context, by: str, look: Callable[[Form], object]
) -> AsyncIterator[Form]:
    """The form of a request. At the end of the block the file is removed, unless it is `needed`.

    Args:
        by: the name of the sender's token.
        look: called when the file begins, with the fields before the file. It may refuse the
            request by raising, before any of the file is kept.

    Raises:
        ProblemError: 413, 408, 422 or 507, or as `look`.
    """
    declared = request.headers.get("content-length", "")
    form = Form(Incoming(context, by, int(declared) if declared.isdigit() else 0))
    try:
        await _receive(request, context, form, look)
        yield form
    finally:
        await form.file.close()


async def _receive(
    request: Request, context: Context, form: Form, look: Callable[[Form], object]
) -> None:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if not boundary:
        raise ProblemError(422, "multipart/form-data needs a boundary", "bad-form")
    parts, receiver = _Parts(), _Receiver(form, look)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        async for piece in bodies.chunks(request, context.settings.upload_max_bytes):
            parser.write(piece)
            events, parts.events = parts.events, []
            for kind, data in events:
                await receiver.take(kind, data)
        parser.finalize()
    except FormParserError as error:
        raise ProblemError(422, f"the form cannot be read: {error}", "bad-form") from None
    except OSError as error:
        raise store_failed(error) from None
    if receiver.in_file:
        raise ProblemError(422, "the form ends within its file", "bad-form")


def store_failed(error: OSError) -> ProblemError:
    """The error if the store fails. 507: the folder is full; 503: the bucket is unavailable."""
    if isinstance(error, StoreError):
        headers = {"Retry-After": "10"}
        return ProblemError(503, f"{error.strerror}; try again", "store-failed", headers)
    log.get_logger().warning("upload_folder_failed", error=str(error))
    return ProblemError(
        507, f"the upload cannot be kept: {error.strerror}; tell an operator", "store-failed"
    )
