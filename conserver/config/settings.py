"""The settings: environment variables, read once at the start, validated and frozen.

1. Declares every variable with its type, default and a one-line description. `conserver settings`
   and docs/configuration.md are generated from these declarations.
2. Reads the values from a mapping that the caller passes (`os.environ` in the daemon, a dict in
   tests) and reports all problems together.

An empty variable counts as not set, because compose files write `${NAME:-}` for optional ones.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from conserver.config.redis_url import fault_of
from conserver.config.validation import problems_of
from conserver.errors import ConfigError, Problem

WORKERS_MAX = 100
"""The most workers of one supervisor. The coordinator gets two file descriptors per worker, and a
forkserver passes no more than 250 to a child."""

TRANSCRIBERS_MAX = 32

_SIZE = re.compile(r"\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>[KMGT]?)(I?B)?\s*", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(value: object) -> object:
    """Parse a size: `512M` is 536870912 bytes. K, M, G, T (also KB, KiB ...) are powers of 1024."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError(f"must be a size in bytes such as 8388608 or 512M, not `{value}`")
    return int(float(match["number"]) * _UNITS[match["unit"].upper()])


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


def _check_redis_url(value: SecretStr) -> SecretStr:
    """Raise ValueError if the URL is invalid; see redis_url.py for why without the value."""
    fault = fault_of(value.get_secret_value())
    if fault:
        raise ValueError(f"{fault} (the value is not shown: it may hold a password)")
    return value


Bytes = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Switch = Annotated[bool, BeforeValidator(_parse_switch)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ExpirySeconds = Annotated[int, Field(ge=0)]
RedisUrl = Annotated[SecretStr, AfterValidator(_check_redis_url)]
RootPath = Annotated[str, BeforeValidator(_parse_root_path)]
WorkerCount = Annotated[int, BeforeValidator(_parse_workers), Field(ge=1, le=WORKERS_MAX)]
TranscriberCount = Annotated[
    Annotated[int, Field(ge=0, le=TRANSCRIBERS_MAX)] | None, BeforeValidator(_parse_transcribers)
]
StartMethod = Annotated[Literal["", "fork", "spawn", "forkserver"], BeforeValidator(_lowered)]
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_parse_level)
]
LogFormat = Annotated[Literal["auto", "json", "console"], BeforeValidator(_lowered)]


def _setting(variable: str, default: object, meaning: str) -> Any:
    return Field(default=default, description=meaning, json_schema_extra={"variable": variable})


class Settings(BaseModel):
    """All settings. Frozen, because a change needs a restart."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    redis_url: RedisUrl = _setting(
        "REDIS_URL",
        "redis://localhost:6379",
        "The URL of Redis: redis://, rediss:// (TLS), unix:// or redis+sentinel://.",
    )
    config_file: str = _setting(
        "CONSERVER_CONFIG_FILE",
        "./config.yml",
        "The file that describes links, storages and chains.",
    )
    workers: WorkerCount = _setting(
        "CONSERVER_WORKERS",
        1,
        "The number of worker processes; `auto` is one per available core.",
    )
    start_method: StartMethod = _setting(
        "CONSERVER_START_METHOD",
        "",
        "How processes start: fork, spawn or forkserver; empty is the default of the platform.",
    )
    vcon_concurrency: Annotated[int, Field(ge=1, le=1024)] = _setting(
        "CONSERVER_VCON_CONCURRENCY",
        1,
        "How many items a worker runs at once; a chain may set a lower `concurrency`.",
    )
    parallel_storage: Switch = _setting(
        "CONSERVER_PARALLEL_STORAGE",
        True,
        "Write to all storages of a chain at once; false writes one after another, in their order.",
    )
    log_level: LogLevel = _setting(
        "LOG_LEVEL", "INFO", "The lowest level to log: DEBUG, INFO, WARNING, ERROR or CRITICAL."
    )
    log_format: LogFormat = _setting(
        "CONSERVER_LOG_FORMAT", "auto", "json or console; auto is console on a terminal, else json."
    )
    tick_interval_ms: Annotated[int, Field(ge=10, le=3_600_000)] = _setting(
        "TICK_INTERVAL",
        1000,
        "How often an idle worker looks for items without having been woken, in ms.",
    )
    lease_s: Annotated[float, Field(ge=1, allow_inf_nan=False)] = _setting(
        "CONSERVER_LEASE_S",
        30,
        "A host without a heartbeat for so long is declared dead; its items are returned.",
    )
    stall_timeout_s: Seconds = _setting(
        "CONSERVER_STALL_TIMEOUT_S",
        60,
        "A worker whose main loop makes no progress for so long is killed and replaced.",
    )
    shutdown_timeout_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = _setting(
        "CONSERVER_SHUTDOWN_TIMEOUT_S",
        25,
        "How long a stop waits for running items; then they are returned and run again later.",
    )
    boot_timeout_s: Seconds = _setting(
        "CONSERVER_BOOT_TIMEOUT_S", 15, "How long the start waits for Redis before it gives up."
    )
    transcribers: TranscriberCount = _setting(
        "CONSERVER_TRANSCRIBERS",
        "auto",
        "Processes that hold speech models: `auto` is one per GPU, or one on the CPU; 0 lets every"
        " worker load its own.",
    )
    max_concurrent_requests: Annotated[int, Field(ge=0, le=4096)] = _setting(
        "MAX_CONCURRENT_REQUESTS",
        0,
        "Calls that a transcriber works on at once; the rest waits. 0 is what fills two batches.",
    )
    transcriber_rows: Annotated[int, Field(ge=0, le=512)] = _setting(
        "CONSERVER_TRANSCRIBER_ROWS",
        0,
        "Windows of speech in one batch; 0 is 32 on a GPU and 4 on a CPU.",
    )
    transcriber_memory: Bytes = _setting(
        "CONSERVER_TRANSCRIBER_MEMORY",
        0,
        "Weights that a transcriber holds at most (8G); the least used model goes. 0 is no limit.",
    )
    transcriber_cpu_fallback: Switch = _setting(
        "CONSERVER_TRANSCRIBER_CPU_FALLBACK",
        False,
        "Whether a model for which the GPU has no room may run on the CPU.",
    )
    transcriber_idle_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = _setting(
        "CONSERVER_TRANSCRIBER_IDLE_S",
        0,
        "A transcriber without calls for so long ends, and the next call starts it; 0 is never.",
    )
    vcon_redis_expiry_s: ExpirySeconds = _setting(
        "VCON_REDIS_EXPIRY",
        3600,
        "How long a stored document stays in Redis after its chain; 0 is forever.",
    )
    dlq_expiry_s: ExpirySeconds = _setting(
        "VCON_DLQ_EXPIRY",
        604_800,
        "How long a dead letter keeps its document and reason; 0 is forever.",
    )
    orphan_expiry_s: ExpirySeconds = _setting(
        "CONSERVER_UNSTORED_EXPIRY_S",
        172_800,
        "How long a document stays in Redis that no storage has and no list names; 0 is forever.",
    )
    max_document_bytes: Bytes = _setting(
        "CONSERVER_MAX_DOCUMENT_BYTES",
        64 << 20,
        "A larger document is dead-lettered, also one that links have made so large.",
    )
    max_payload_bytes: Bytes = _setting(
        "CONSERVER_MAX_PAYLOAD_BYTES",
        8 << 20,
        "A larger document that is pushed onto a list as a whole is dead-lettered.",
    )
    max_items_per_worker: Annotated[int, Field(ge=0)] = _setting(
        "CONSERVER_MAX_ITEMS_PER_WORKER", 0, "A worker is replaced after so many items; 0 is never."
    )
    max_worker_memory: Bytes = _setting(
        "CONSERVER_MAX_WORKER_MEMORY",
        0,
        "A worker that uses more memory is replaced (such as 512M); 0 is never.",
    )
    parked_cap: Annotated[int, Field(ge=1)] = _setting(
        "CONSERVER_PARKED_CAP",
        100_000,
        "While so many items of a list are parked, no new ones are claimed from it.",
    )
    job_expiry_s: Annotated[int, Field(ge=1)] = _setting(
        "CONSERVER_JOB_EXPIRY_S", 3600, "How long a job is kept after its end."
    )
    job_max_s: Annotated[int, Field(ge=60)] = _setting(
        "CONSERVER_JOB_MAX_S", 604_800, "How long a job is kept at most, ended or not."
    )
    list_cap: Annotated[int, Field(ge=0)] = _setting(
        "CONSERVER_LIST_CAP",
        1_000_000,
        "While so many items wait on a list, the API takes no more for it; 0 is no limit.",
    )
    api_port: Annotated[int, Field(ge=0, le=65535)] = _setting(
        "CONSERVER_API_PORT", 0, "Where `conserver run` serves the HTTP API; 0 is nowhere."
    )
    api_host: str = _setting(
        "CONSERVER_API_HOST", "127.0.0.1", "The address that the HTTP API listens on."
    )
    api_tokens_file: str = _setting(
        "CONSERVER_API_TOKENS_FILE",
        "",
        "The tokens of the HTTP API (`conserver token add`); without any it serves loopback only.",
    )
    api_token: SecretStr = _setting(
        "CONSERVER_API_TOKEN", "", "One more token, with the role admin (as vcon-server has it)."
    )
    api_header_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = _setting(
        "CONSERVER_HEADER_NAME",
        "x-conserver-api-token",
        "The header that may carry a token, beside Authorization: Bearer.",
    )
    api_root_path: RootPath = _setting(
        "API_ROOT_PATH", "/api", "The prefix under which a proxy may serve the API."
    )
    api_cors_origins: str = _setting(
        "CONSERVER_API_CORS_ORIGINS",
        "",
        "Origins whose pages may call the API, separated by commas; none by default.",
    )
    api_rate_per_minute: Annotated[int, Field(ge=0)] = _setting(
        "CONSERVER_API_RATE_PER_MINUTE", 0, "How many requests a token may make; 0 is no limit."
    )
    upload_dir: str = _setting(
        "CONSERVER_UPLOAD_DIR",
        "./uploads",
        "Where recordings that were uploaded are kept; API and workers share it.",
    )
    upload_max_bytes: Bytes = _setting(
        "CONSERVER_UPLOAD_MAX_BYTES", 2 << 30, "A larger upload is refused."
    )
    upload_expiry_s: ExpirySeconds = _setting(
        "CONSERVER_UPLOAD_EXPIRY_S",
        604_800,
        "How long an upload is kept; its vCon keeps its hash. 0 is forever.",
    )
    inline_bytes: Bytes = _setting(
        "CONSERVER_INLINE_BYTES",
        1 << 20,
        "A recording up to this size becomes a part of its vCon; a larger one stays an upload.",
    )
    upload_timeout_s: Seconds = _setting(
        "UPLOAD_TIMEOUT_SECONDS",
        600,
        "How long one try to deliver a job's result to its callback may take in all.",
    )
    callback_tries: Annotated[int, Field(ge=1, le=100)] = _setting(
        "CONSERVER_CALLBACK_TRIES",
        3,
        "How often a job's end is sent to its callback before it is a dead letter.",
    )
    callback_backoff_s: Seconds = _setting(
        "CONSERVER_CALLBACK_BACKOFF_S",
        5,
        "The wait before the second try; it doubles, with jitter, from there.",
    )
    callback_private_addresses: Switch = _setting(
        "CONSERVER_CALLBACK_PRIVATE_ADDRESSES",
        False,
        "Whether callbacks may go to addresses of our own networks.",
    )
    webhook_secret: SecretStr = _setting(
        "CONSERVER_WEBHOOK_SECRET",
        "",
        "What signs webhooks: `whsec_` and base64; two, separated by a space, while one is new.",
    )
    webhook_secret_file: str = _setting(
        "CONSERVER_WEBHOOK_SECRET_FILE",
        "",
        "A file of such secrets: lines of a name and its secret, for callbacks that name one.",
    )


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting, for documentation."""

    name: str
    field: str
    default: str
    meaning: str


def variables() -> list[Variable]:
    """All settings in the order of their declaration, for docs and `conserver settings`."""
    return [
        Variable(_variable(name), name, _default_text(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def load(environ: Mapping[str, str]) -> Settings:
    """Read the settings from `environ`.

    Raises:
        ConfigError: all variables with invalid values.
    """
    names = {_variable(field): field for field in Settings.model_fields}
    given = {field: environ[name] for name, field in names.items() if environ.get(name, "").strip()}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        faults = problems_of(error, Settings, given)
        named = [
            Problem(_variable(fault.path), fault.message, fault.hint)
            if fault.path in given
            else fault
            for fault in faults
        ]
        raise ConfigError(named, "the environment") from None


def misspelt(environ: Mapping[str, str]) -> list[Problem]:
    """Problems for variables that are probably misspelt settings, such as CONSERVER_WORKER.

    Only close matches are reported, because Kubernetes sets CONSERVER_PORT and others for a service
    of this name, and a config file may use any variable.
    """
    ours = {_variable(field) for field in Settings.model_fields}
    found = []
    for name in sorted(environ):
        if not name.startswith(("CONSERVER_", "VCON_")) or name in ours:
            continue
        near = difflib.get_close_matches(name, ours, n=1, cutoff=0.9)
        if near:
            found.append(Problem(name, "is no setting", f"did you mean `{near[0]}`?"))
    return found


def _variable(field: str) -> str:
    extra = Settings.model_fields[field].json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["variable"])


def _default_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
