"""Logging: one line per event, in one format, from every process and every library.

1. Each process calls `configure` once. It sets the source of the process's lines: the supervisor,
   the coordinator, or worker N.
2. A line is a JSON object with time, level, event, source, and the fields that the logger is bound
   to (vcon, chain, link, storage, duration_ms). On a terminal it is readable text instead.
3. Messages that libraries log through the standard `logging` get the same format.
4. Secrets are removed before a line is written.
5. One `write` call writes one line. A JSON line has at most 4096 bytes, so that the kernel
   never mixes lines of several processes. If the reader of a pipe stops reading, the process drops
   and counts lines and goes on.
6. Logging never raises: a closed standard output must not end a worker.

Only this module imports structlog. All others import `get_logger` and `Logger` from here.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import orjson

from conserver.telemetry.redact import HIDDEN, is_secret_name, printable, redact_fields, redact_text

if TYPE_CHECKING:
    from types import TracebackType

# If Rich is installed, structlog imports it for a renderer that is not used here. That would cost
# 100 ms and 6 MB in every process. With None in sys.modules, structlog works without Rich.
_hide_rich = "rich" not in sys.modules
if _hide_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]
try:
    import structlog
    from structlog.typing import FilteringBoundLogger as Logger
finally:
    if _hide_rich:
        del sys.modules["rich"]

__all__ = [
    "LineWriter",
    "Logger",
    "Renderer",
    "configure",
    "get_logger",
    "is_configured",
    "show_span",
]

LINE_BYTES_MAX = 4096  # PIPE_BUF on Linux: the longest write to a pipe that is atomic.
_JAM_WAIT_MS = 200  # How long the first line waits for a slow reader.
_TEXT_CHARS_MIN = 200  # _shorten cuts no value of a line shorter than this.

_JSON = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS

_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}


def get_logger(**bound: object) -> Logger:
    """A logger that adds `bound` to each of its lines. May be called before `configure`."""
    logger: Logger = structlog.get_logger(**bound)
    return logger


def configure(
    role: str, slot: int = 0, *, level: str = "INFO", shape: str = "auto", fd: int = 1
) -> None:
    """Set the source, the level and the format of this process's log lines.

    Args:
        role: what the process is: `supervisor`, `worker`, another child's role, or the name of a
            command.
        slot: the number of a worker, 1..N. Its lines have the field `worker`; those of other
            processes have the field `role`.
        level: the lowest level to log: DEBUG, INFO, WARNING, ERROR or CRITICAL.
        shape: json, console, or auto (console on a terminal, else json).
        fd: the file descriptor to write to. The daemon logs to 1; a command logs to 2, because its
            results go to 1.
    """
    source: dict[str, object] = {"worker": slot} if role == "worker" else {"role": role}
    as_text = shape == "console" or (shape == "auto" and _is_terminal(fd))
    renderer = Renderer(
        source, LineWriter(fd), as_text=as_text, coloured=as_text and _wants_colour(fd)
    )
    least = _LEVELS[level]
    structlog.configure(
        processors=[renderer],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=lambda *_: renderer.writer,
        cache_logger_on_first_use=False,
    )
    _capture_standard_logging(renderer, least)
    if role != "command":
        sys.excepthook = _ExceptHook(renderer)
        threading.excepthook = lambda args: renderer.emit_exception(
            "thread_died", args.exc_value, thread=args.thread.name if args.thread else ""
        )


def show_span(ids: Callable[[], Mapping[str, str]] | None) -> None:
    """Add the result of `ids` to each line from now on: trace_id and span_id of the span that is
    open in the logging thread. None stops this.
    """
    _SPAN.ids = ids


def is_configured() -> bool:
    """Whether `configure` was called in this process. Commands that only print do not call it."""
    processors = structlog.get_config()["processors"]
    return bool(processors) and isinstance(processors[0], Renderer)


class _Span:
    """ids: returns the ids of the open span; None if this process makes no spans."""

    __slots__ = ("ids",)

    def __init__(self) -> None:
        self.ids: Callable[[], Mapping[str, str]] | None = None


_SPAN = _Span()


class LineWriter:
    """Writes whole lines to a descriptor. Blocks for at most 0.2 s and never raises.

    structlog calls it as its innermost logger. `lost` counts the lines that were dropped since the
    last successful write.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.lost = 0
        self._jammed = False

    def write(self, line: bytes) -> None:
        """Write `line`, which ends in a newline; drop it if the reader has stopped reading."""
        try:
            # poll reports a pipe as writable when it has room for PIPE_BUF bytes, so the write
            # below does not block. Only the first line waits for a full pipe; later lines are
            # dropped at once. Each call makes a new poll object, because two threads must not use
            # the same one at once.
            poll = select.poll()
            poll.register(self.fd, select.POLLOUT)
            if poll.poll(0 if self._jammed else _JAM_WAIT_MS):
                os.write(self.fd, line)
                self._jammed = False
                self.lost = 0
                return
            self._jammed = True
        except OSError:
            self._jammed = False  # The descriptor is closed.
        self.lost += 1

    msg = debug = info = warning = error = critical = fatal = exception = log = write


class Renderer:
    """Turns an event into a line. It is structlog's only processor: each one costs a call."""

    def __init__(
        self,
        source: Mapping[str, object],
        writer: LineWriter,
        *,
        as_text: bool,
        coloured: bool = False,
    ) -> None:
        self.writer = writer
        self._source = dict(source)
        self._as_text = as_text
        self._coloured = coloured
        self._clock = (-1, "")  # One tuple, so that threads read both values of one moment.

    def __call__(
        self, _logger: object, method: str, event: MutableMapping[str, Any]
    ) -> tuple[tuple[bytes], dict[str, Any]]:
        """The arguments for the writer's method, as structlog expects of its last processor."""
        return (self.render(method, event),), {}

    def emit(self, level: str, event: MutableMapping[str, Any]) -> None:
        """Render and write an event that did not come through structlog."""
        self.writer.write(self.render(level, event))

    def emit_exception(self, name: str, error: BaseException | None, **fields: object) -> None:
        """Write an uncaught exception at level CRITICAL."""
        self.emit("critical", {"event": name, "exc_info": error, **fields})

    def render(self, level: str, event: MutableMapping[str, Any]) -> bytes:
        """The finished line. Never raises: the repr replaces a value that JSON cannot express."""
        if level == "exception":
            level = "error"
        line: dict[str, Any] = {
            "timestamp": self._timestamp(),
            "level": level,
            "event": redact_fields(event.pop("event", "")),
        }
        line.update(self._source)
        if self.writer.lost:
            line["log_lines_lost"] = self.writer.lost
        if _SPAN.ids is not None:
            line.update(_SPAN.ids())
        exc_info = event.pop("exc_info", None)
        for key, value in event.items():
            if type(value) is str:
                line[key] = HIDDEN if is_secret_name(key) else redact_text(value)
            elif type(value) in (int, float, bool):
                line[key] = value
            else:
                line[key] = redact_fields(value, key)
        if exc_info:
            line["exception"] = redact_text(_format_exception(exc_info))
        if self._as_text:
            return self._text(line)
        data = _dump(line)
        return data if len(data) <= LINE_BYTES_MAX else _shorten(line)

    def _timestamp(self) -> str:
        now = time.time()
        second, text = self._clock
        if second != int(now):
            second = int(now)
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._clock = (second, text)
        return f"{text}.{int((now - second) * 1000):03d}Z"

    def _text(self, line: dict[str, Any]) -> bytes:
        level = line.pop("level")
        clock = line.pop("timestamp")[11:23]
        event = printable(str(line.pop("event")))
        exception = line.pop("exception", "")
        mark = f"{level.upper():8}"
        if self._coloured:
            mark = f"\x1b[{_COLOURS.get(level, '0')}m{mark}\x1b[0m"
        fields = " ".join(f"{key}={_plain(value)}" for key, value in line.items())
        text = f"{clock} {mark} {event}  {fields}".rstrip()
        if exception:
            text += "\n" + printable(exception.rstrip(), keep="\n\t")
        return text.encode("utf-8", "backslashreplace") + b"\n"


class _LibraryHandler(logging.Handler):
    """Writes records of the standard `logging`, which libraries use, in our format."""

    def __init__(self, renderer: Renderer) -> None:
        super().__init__()
        self._renderer = renderer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)  # The arguments do not fit the library's own format string.
        event: dict[str, Any] = {"event": message, "logger": record.name}
        if record.exc_info:
            event["exc_info"] = record.exc_info
        self._renderer.emit(record.levelname.lower(), event)


class _ExceptHook:
    """Logs the exception that ends the process, as a line like any other."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def __call__(
        self, kind: type[BaseException], error: BaseException, _traceback: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        self._renderer.emit_exception("process_died", error)


def _capture_standard_logging(renderer: Renderer, level: int) -> None:
    """Log the messages of libraries from level WARNING on, because some log every request at INFO.

    With the level DEBUG, messages of libraries are logged from INFO on.
    """
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler(renderer)]
    root.setLevel(max(level, logging.WARNING) if level > logging.DEBUG else logging.INFO)
    logging.captureWarnings(True)


def _wants_colour(fd: int) -> bool:
    return _is_terminal(fd) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def _format_exception(exc_info: object) -> str:
    if exc_info is True:
        error = sys.exc_info()[1]
    elif isinstance(exc_info, tuple):
        error = exc_info[1]
    else:
        error = exc_info if isinstance(exc_info, BaseException) else None
    return "".join(traceback.format_exception(error)) if error is not None else ""


def _dump(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, default=_as_text_value, option=_JSON)
    except (TypeError, ValueError, RecursionError):
        # JSON cannot express lone surrogates, integers beyond 64 bits or keys of odd types.
        plain = {
            key: value if isinstance(value, (bool, float)) else _safe_repr(value)
            for key, value in line.items()
        }
        return orjson.dumps(plain, option=orjson.OPT_APPEND_NEWLINE)


def _as_text_value(value: object) -> str:
    if isinstance(value, bytes):
        return value[:200].decode("utf-8", "backslashreplace")
    return _safe_text(str, value)


def _safe_repr(value: object) -> str:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return _safe_text(repr, value)


def _safe_text(convert: Callable[[object], str], value: object) -> str:
    try:
        text = convert(value)
    except Exception as error:  # noqa: BLE001 - the object's own code raised it.
        text = f"<{type(value).__name__} whose text raises {type(error).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _shorten(line: dict[str, Any]) -> bytes:
    """Cut long values until the line fits: tracebacks at their start, other values at their end."""
    keep = LINE_BYTES_MAX // 2
    short = {
        key: value if isinstance(value, (str, int, float)) else _safe_repr(value)
        for key, value in line.items()
    }
    while keep >= _TEXT_CHARS_MIN:
        for key, value in short.items():
            if isinstance(value, str) and len(value) > keep:
                left_out = len(value) - keep
                short[key] = (
                    f"[{left_out} characters left out] {value[-keep:]}"
                    if key == "exception"
                    else f"{value[:keep]} [{left_out} characters left out]"
                )
        data = _dump(short)
        if len(data) <= LINE_BYTES_MAX:
            return data
        keep //= 2
    head = {
        key: str(line.get(key, ""))[:_TEXT_CHARS_MIN] for key in ("timestamp", "level", "event")
    }
    return _dump({**head, "shortened": True})


def _plain(value: object) -> str:
    if not isinstance(value, str):
        return _dump({"": value})[4:-2].decode("utf-8")
    text = printable(value)
    return f'"{text}"' if " " in text or not text else text
