"""The settings: environment variables, read once at the start, validated and frozen.

1. Declares every variable with its type (setting_types.py), default and a one-line description.
   `conserver settings` and docs/configuration.md are generated from these declarations.
2. Reads the values from a mapping that the caller passes (`os.environ` in the daemon, a dict in
   tests) and reports all problems together.

An empty variable counts as not set, because compose files write `${NAME:-}` for optional ones.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from conserver.config.ages import TimeText
from conserver.config.setting_types import (
    Bytes,
    EgressFormat,
    ExpirySeconds,
    LogFormat,
    LogLevel,
    PageReaderCount,
    RedisUrl,
    RootPath,
    Seconds,
    StartMethod,
    Stories,
    Switch,
    TranscriberCount,
    UiPayload,
    UploadBucket,
    WebOrigin,
    WorkerCount,
)
from conserver.config.validation import problems_of
from conserver.errors import ConfigError, Problem


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
    lease_s: Annotated[float, TimeText, Field(ge=1, allow_inf_nan=False)] = _setting(
        "CONSERVER_LEASE_S",
        30,
        "A host without a heartbeat for so long is declared dead; its items are returned.",
    )
    stall_timeout_s: Seconds = _setting(
        "CONSERVER_STALL_TIMEOUT_S",
        60,
        "A process whose main loop makes no progress for so long is killed and replaced.",
    )
    shutdown_timeout_s: Annotated[float, TimeText, Field(ge=0, allow_inf_nan=False)] = _setting(
        "CONSERVER_SHUTDOWN_TIMEOUT_S",
        25,
        "How long a stop waits for running items; then they are returned and run again later.",
    )
    boot_timeout_s: Seconds = _setting(
        "CONSERVER_BOOT_TIMEOUT_S",
        15,
        "How long the start waits for Redis before it gives up. A process that is not ready yet"
        " stalls no earlier.",
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
    transcriber_idle_s: Annotated[float, TimeText, Field(ge=0, allow_inf_nan=False)] = _setting(
        "CONSERVER_TRANSCRIBER_IDLE_S",
        0,
        "A transcriber without calls for so long ends, and the next call starts it; 0 is never.",
    )
    page_readers: PageReaderCount = _setting(
        "CONSERVER_PAGE_READERS",
        "auto",
        "Processes that read pages of documents, for all workers: `auto` is one per core, at most"
        " 8. They are started if a link reads documents.",
    )
    page_reader_memory: Bytes = _setting(
        "CONSERVER_PAGE_READER_MEMORY",
        "2G",
        "What one page reader may allocate; a page that takes more is given up. 0 is no limit.",
    )
    vcon_redis_expiry_s: ExpirySeconds = _setting(
        "VCON_REDIS_EXPIRY",
        3600,
        "How long a stored document stays in Redis after its chain; 0 is forever.",
    )
    context_expiry_s: ExpirySeconds = _setting(
        "VCON_CONTEXT_EXPIRY",
        86_400,
        "How long vcon-server's trace contexts (context:<list>:<uuid>) live, where traces are on; 0"
        " neither reads nor writes them.",
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
    job_expiry_s: Annotated[int, TimeText, Field(ge=1)] = _setting(
        "CONSERVER_JOB_EXPIRY_S", 3600, "How long a job is kept after its end."
    )
    job_max_s: Annotated[int, TimeText, Field(ge=60)] = _setting(
        "CONSERVER_JOB_MAX_S", 604_800, "How long a job is kept at most, from its `not_before` on."
    )
    stories: Stories = _setting(
        "CONSERVER_STORIES",
        "jobs",
        "Of which items the attempts are kept for the dashboard: `jobs`, `all` or `off`.",
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
    api_token_file: str = _setting(
        "CONSERVER_API_TOKEN_FILE",
        "",
        "More tokens with the role admin, one per line as plain text (as vcon-server has it).",
    )
    api_open: Switch = _setting(
        "CONSERVER_API_OPEN",
        False,
        "Without any token serve everybody on every address: for a proxy that asks who they are.",
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
        "CONSERVER_API_RATE_PER_MINUTE",
        0,
        "Requests of a token per minute, in each process of the API; 0 is no limit.",
    )
    api_jobs_at_once: Annotated[int, Field(ge=0)] = _setting(
        "CONSERVER_API_JOBS_AT_ONCE",
        0,
        "How many jobs of a token may be unfinished, where the token has no number of its own; 0 is"
        " no limit.",
    )
    api_jobs_per_minute: Annotated[int, Field(ge=0)] = _setting(
        "CONSERVER_API_JOBS_PER_MINUTE",
        0,
        "How many jobs a token may submit in a minute, over all replicas, where the token has no"
        " number of its own; 0 is no limit.",
    )
    api_bytes_per_day: Bytes = _setting(
        "CONSERVER_API_BYTES_PER_DAY",
        0,
        "How much a token may send on a day (UTC), such as 10G, where the token has no size of its"
        " own; 0 is no limit.",
    )
    api_any_list: Switch = _setting(
        "CONSERVER_API_ANY_LIST",
        False,
        "Whether vcon-server's routes take lists that are not in the configuration.",
    )
    api_public_stats: Switch = _setting(
        "CONSERVER_API_PUBLIC_STATS",
        True,
        "Whether /stats/queue tells the depth of configured lists without a token.",
    )
    api_config_writes: Switch = _setting(
        "CONSERVER_API_CONFIG_WRITES",
        False,
        "Whether POST /config may replace the configuration file: its modules are code that runs.",
    )
    egress_format_version: EgressFormat = _setting(
        "EGRESS_FORMAT_VERSION",
        "",
        "0.0.1 lets vcon-server's routes give documents in that version's spelling.",
    )
    vcon_sorted_set_name: Annotated[str, Field(min_length=1)] = _setting(
        "VCON_SORTED_SET_NAME", "vcons", "The sorted set by which vcon-server's GET /vcon lists."
    )
    vcon_index_expiry_s: ExpirySeconds = _setting(
        "VCON_INDEX_EXPIRY",
        86_400,
        "How long vcon-server's routes list and find what was posted to them; 0 indexes nothing.",
    )
    vcon_server_version: str = _setting(
        "VCON_SERVER_VERSION", "", "What GET /version says; empty is Conserver's own version."
    )
    vcon_server_git_commit: str = _setting(
        "VCON_SERVER_GIT_COMMIT", "unknown", "The same: the commit of what runs."
    )
    vcon_server_build_time: str = _setting(
        "VCON_SERVER_BUILD_TIME", "unknown", "The same: when it was built."
    )
    ui_session_s: Annotated[int, TimeText, Field(ge=60)] = _setting(
        "CONSERVER_UI_SESSION_S", 43_200, "How long a login to the dashboard lasts."
    )
    ui_label: Annotated[str, Field(max_length=40)] = _setting(
        "CONSERVER_UI_LABEL", "", "What the dashboard calls this installation, such as production."
    )
    ui_payload: UiPayload = _setting(
        "CONSERVER_UI_PAYLOAD",
        "operate",
        "The role that sees in the dashboard what vCons hold: `operate`, or `read` too.",
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = _setting(
        "CONSERVER_METRICS_PORT", 0, "Where `conserver run` serves /metrics; 0 is nowhere."
    )
    metrics_host: str = _setting(
        "CONSERVER_METRICS_HOST", "127.0.0.1", "The address that metrics are served on."
    )
    upload_dir: str = _setting(
        "CONSERVER_UPLOAD_DIR",
        "./uploads",
        "Where recordings that were uploaded are kept; API and workers share it.",
    )
    upload_bucket: UploadBucket = _setting(
        "CONSERVER_UPLOAD_BUCKET",
        "",
        "A bucket for them instead, as `name` or `name/prefix`; its keys are found as boto3 does.",
    )
    upload_endpoint_url: WebOrigin = _setting(
        "CONSERVER_UPLOAD_ENDPOINT_URL", "", "The URL of the bucket's S3 where it is not AWS's."
    )
    upload_public_url: WebOrigin = _setting(
        "CONSERVER_UPLOAD_PUBLIC_URL", "", "The same S3 as callers reach it, for presigned URLs."
    )
    upload_offer_s: Annotated[int, TimeText, Field(ge=1, le=604_800)] = _setting(
        "CONSERVER_UPLOAD_OFFER_S", 86_400, "How long an announced upload may take to arrive."
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
    callbacks: Switch = _setting(
        "CONSERVER_CALLBACKS",
        True,
        "Whether jobs may have callbacks, and this host tells them how jobs have ended.",
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

    @property
    def measures(self) -> bool:
        """Whether processes count for /metrics: some port serves it."""
        return bool(self.metrics_port or self.api_port)


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
