"""Settings of expiries and limits: of data in Redis, and of workers before they are recycled."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from conserver.config.ages import TimeText
from conserver.config.setting_types import Bytes, ExpirySeconds, Stories
from conserver.config.settings.part import Part, setting


class Limits(Part):
    """The settings of expiries and limits."""

    vcon_redis_expiry_s: ExpirySeconds = setting(
        "VCON_REDIS_EXPIRY",
        3600,
        "How long a stored document stays in Redis after its chain; 0 is forever.",
    )
    context_expiry_s: ExpirySeconds = setting(
        "VCON_CONTEXT_EXPIRY",
        86_400,
        "How long vcon-server's trace contexts (context:<list>:<uuid>) live, where traces are on; 0"
        " neither reads nor writes them.",
    )
    dlq_expiry_s: ExpirySeconds = setting(
        "VCON_DLQ_EXPIRY",
        604_800,
        "How long a dead letter keeps its document and reason; 0 is forever.",
    )
    orphan_expiry_s: ExpirySeconds = setting(
        "CONSERVER_UNSTORED_EXPIRY_S",
        172_800,
        "How long a document stays in Redis if no storage has it and no list names it; 0: forever.",
    )
    max_document_bytes: Bytes = setting(
        "CONSERVER_MAX_DOCUMENT_BYTES",
        64 << 20,
        "A larger document is dead-lettered, also one that links have made so large.",
    )
    max_payload_bytes: Bytes = setting(
        "CONSERVER_MAX_PAYLOAD_BYTES",
        8 << 20,
        "A larger document that is pushed onto a list as a whole is dead-lettered.",
    )
    max_items_per_worker: Annotated[int, Field(ge=0)] = setting(
        "CONSERVER_MAX_ITEMS_PER_WORKER", 0, "A worker is replaced after so many items; 0 is never."
    )
    max_worker_memory: Bytes = setting(
        "CONSERVER_MAX_WORKER_MEMORY",
        0,
        "A worker that uses more memory is replaced (such as 512M); 0 is never.",
    )
    parked_cap: Annotated[int, Field(ge=1)] = setting(
        "CONSERVER_PARKED_CAP",
        100_000,
        "While so many items of a list are parked, no new ones are claimed from it.",
    )
    job_expiry_s: Annotated[int, TimeText, Field(ge=1)] = setting(
        "CONSERVER_JOB_EXPIRY_S", 3600, "How long a job is kept after its end."
    )
    job_max_s: Annotated[int, TimeText, Field(ge=60)] = setting(
        "CONSERVER_JOB_MAX_S", 604_800, "How long a job is kept at most, from its `not_before` on."
    )
    stories: Stories = setting(
        "CONSERVER_STORIES",
        "jobs",
        "The items whose attempts are kept for the dashboard: those of `jobs`, `all`, or `off`.",
    )
    list_cap: Annotated[int, Field(ge=0)] = setting(
        "CONSERVER_LIST_CAP",
        1_000_000,
        "While so many items wait on a list, the API takes no more for it; 0 is no limit.",
    )
