"""Settings of the daemon: Redis, the configuration file, processes, logs, and time limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from conserver.config.ages import TimeText
from conserver.config.setting_types import (
    LogFormat,
    LogLevel,
    RedisUrl,
    Seconds,
    StartMethod,
    Switch,
    WorkerCount,
)
from conserver.config.settings.part import Part, setting


class Daemon(Part):
    """The settings of the daemon."""

    redis_url: RedisUrl = setting(
        "REDIS_URL",
        "redis://localhost:6379",
        "The URL of Redis: redis://, rediss:// (TLS), unix:// or redis+sentinel://.",
    )
    config_file: str = setting(
        "CONSERVER_CONFIG_FILE",
        "./config.yml",
        "The file that describes links, storages and chains.",
    )
    workers: WorkerCount = setting(
        "CONSERVER_WORKERS",
        1,
        "The number of worker processes; `auto` is one per available core.",
    )
    start_method: StartMethod = setting(
        "CONSERVER_START_METHOD",
        "",
        "How processes start: fork, spawn or forkserver; empty is the default of the platform.",
    )
    vcon_concurrency: Annotated[int, Field(ge=1, le=1024)] = setting(
        "CONSERVER_VCON_CONCURRENCY",
        1,
        "How many items a worker runs at once; a chain may set a lower `concurrency`.",
    )
    parallel_storage: Switch = setting(
        "CONSERVER_PARALLEL_STORAGE",
        True,
        "Write to all storages of a chain at once; false writes one after another, in their order.",
    )
    log_level: LogLevel = setting(
        "LOG_LEVEL", "INFO", "The lowest level to log: DEBUG, INFO, WARNING, ERROR or CRITICAL."
    )
    log_format: LogFormat = setting(
        "CONSERVER_LOG_FORMAT", "auto", "json or console; auto is console on a terminal, else json."
    )
    tick_interval_ms: Annotated[int, Field(ge=10, le=3_600_000)] = setting(
        "TICK_INTERVAL",
        1000,
        "How often a worker that has room claims without a wakeup, in ms.",
    )
    lease_s: Annotated[float, TimeText, Field(ge=1, allow_inf_nan=False)] = setting(
        "CONSERVER_LEASE_S",
        30,
        "A host without a heartbeat for so long is declared dead; its items are returned.",
    )
    stall_timeout_s: Seconds = setting(
        "CONSERVER_STALL_TIMEOUT_S",
        60,
        "A process whose main loop makes no progress for so long is killed and replaced.",
    )
    shutdown_timeout_s: Annotated[float, TimeText, Field(ge=0, allow_inf_nan=False)] = setting(
        "CONSERVER_SHUTDOWN_TIMEOUT_S",
        25,
        "How long a stop waits for running items; then they are returned and run again later.",
    )
    boot_timeout_s: Seconds = setting(
        "CONSERVER_BOOT_TIMEOUT_S",
        15,
        "How long the start waits for Redis before it gives up. A starting process is killed as"
        " stalled after this time or CONSERVER_STALL_TIMEOUT_S, whichever is longer.",
    )
