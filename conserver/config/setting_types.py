"""The types of settings: how the text of a variable is parsed and validated."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from conserver.config.ages import TimeText
from conserver.config.redis_url import fault_of

WORKERS_MAX = 100
"""The most workers of one supervisor. The coordinator gets two file descriptors per worker, and a
forkserver passes no more than 250 to a child."""

TRANSCRIBERS_MAX = 32
PAGE_READERS_AUTO_MAX = 8

_SIZE = re.compile(r"\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>[KMGT]?)(I?B)?\s*", re.IGNORECASE)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{1,61}[A-Za-z0-9](/[A-Za-z0-9._-]+)*")
_ORIGIN = re.compile(r"https?://[^/?#@\s]+")
_SIZE_MAX = 1 << 60
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Parse a size: `512M` is 536870912 bytes. K, M, G, T (also KB, KiB ...) are powers of 1024.

    Raises:
        ValueError: `text` is not a size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"must be a size in bytes such as 8388608 or 512M, not `{text}`")
    size = float(match["number"]) * _UNITS[match["unit"].upper()]
    if size > _SIZE_MAX:
        raise ValueError(f"must be at most {_SIZE_MAX >> 40}T, not `{text[:40]}`")
    return int(size)


def _parse_size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def available_cores() -> int:
    """The number of cores that this process may use, by its affinity and its cgroup's CPU quota."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, math.ceil(int(quota) / int(period))))


def _parse_page_readers(value: object) -> object:
    if isinstance(value, str) and value.strip().lower() == "auto":
        return min(available_cores(), PAGE_READERS_AUTO_MAX)
    if isinstance(value, str) and not re.fullmatch(r"\s*\d+\s*", value):
        raise ValueError(f"must be a number of page readers or `auto`, not `{value}`")
    return value


def _parse_workers(value: object) -> object:
    if isinstance(value, str) and value.strip().lower() == "auto":
        return min(available_cores(), WORKERS_MAX)
    if isinstance(value, str) and not re.fullmatch(r"\s*\d+\s*", value):
        raise ValueError(f"must be a number of workers or `auto` (one per core), not `{value}`")
    return value


def _parse_transcribers(value: object) -> object:
    if isinstance(value, str) and value.strip().lower() == "auto":
        return None
    if isinstance(value, str) and not re.fullmatch(r"\s*\d+\s*", value):
        raise ValueError(f"must be a number of transcribers or `auto`, not `{value}`")
    return value


def _parse_switch(value: object) -> object:
    if isinstance(value, str) and value.strip().lower() in ("1", "true", "yes", "on"):
        return True
    if isinstance(value, str) and value.strip().lower() in ("0", "false", "no", "off"):
        return False
    if isinstance(value, bool):
        return value
    raise ValueError(f"must be one of 1, true, yes, on, 0, false, no, off, not `{value}`")


def _parse_level(value: object) -> object:
    level = str(value).strip().upper()
    return "WARNING" if level == "WARN" else level


def _lowered(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _parse_root_path(value: object) -> object:
    if not isinstance(value, str):
        return value
    path = "/" + value.strip().strip("/")
    return "" if path == "/" else path


def _check_bucket(value: str) -> str:
    value = value.strip().strip("/")
    if value and not _BUCKET.fullmatch(value):
        raise ValueError(f"must be a bucket's name, or `name/prefix`, not `{value}`")
    return value


def _check_origin(value: str) -> str:
    value = value.strip().rstrip("/")
    if value and not _ORIGIN.fullmatch(value):
        raise ValueError(f"must be http:// or https:// with a host, and no path, not `{value}`")
    return value


def _check_redis_url(value: SecretStr) -> SecretStr:
    """Raise ValueError if the URL is invalid. The message does not quote it (see redis_url.py)."""
    fault = fault_of(value.get_secret_value())
    if fault:
        raise ValueError(f"{fault} (the value is not shown: it may hold a password)")
    return value


Bytes = Annotated[int, BeforeValidator(_parse_size), Field(ge=0)]
Switch = Annotated[bool, BeforeValidator(_parse_switch)]
Seconds = Annotated[float, TimeText, Field(gt=0, allow_inf_nan=False)]
ExpirySeconds = Annotated[int, TimeText, Field(ge=0)]
UploadBucket = Annotated[str, AfterValidator(_check_bucket)]
WebOrigin = Annotated[str, AfterValidator(_check_origin)]
RedisUrl = Annotated[SecretStr, AfterValidator(_check_redis_url)]
RootPath = Annotated[str, BeforeValidator(_parse_root_path)]
WorkerCount = Annotated[int, BeforeValidator(_parse_workers), Field(ge=1, le=WORKERS_MAX)]
TranscriberCount = Annotated[
    Annotated[int, Field(ge=0, le=TRANSCRIBERS_MAX)] | None, BeforeValidator(_parse_transcribers)
]
PageReaderCount = Annotated[int, BeforeValidator(_parse_page_readers), Field(ge=1, le=WORKERS_MAX)]
StartMethod = Annotated[Literal["", "fork", "spawn", "forkserver"], BeforeValidator(_lowered)]
Stories = Annotated[Literal["jobs", "all", "off"], BeforeValidator(_lowered)]
UiPayload = Annotated[Literal["operate", "read"], BeforeValidator(_lowered)]
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_parse_level)
]
EgressFormat = Literal["", "0.0.1"]
LogFormat = Annotated[Literal["auto", "json", "console"], BeforeValidator(_lowered)]
