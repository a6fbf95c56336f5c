"""Settings of transcribers, the processes that hold speech models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from conserver.config.ages import TimeText
from conserver.config.setting_types import Bytes, Switch, TranscriberCount
from conserver.config.settings.part import Part, setting


class Speech(Part):
    """The settings of transcribers."""

    transcribers: TranscriberCount = setting(
        "CONSERVER_TRANSCRIBERS",
        "auto",
        "Processes that hold speech models: `auto` is one per GPU, or one on the CPU; with 0 every"
        " worker loads its own.",
    )
    max_concurrent_requests: Annotated[int, Field(ge=0, le=4096)] = setting(
        "MAX_CONCURRENT_REQUESTS",
        0,
        "Calls that a transcriber works on at once; others wait. 0: enough to fill two batches.",
    )
    transcriber_rows: Annotated[int, Field(ge=0, le=512)] = setting(
        "CONSERVER_TRANSCRIBER_ROWS",
        0,
        "Windows of speech in one batch; 0 is 32 on a GPU and 2 on a CPU.",
    )
    transcriber_memory: Bytes = setting(
        "CONSERVER_TRANSCRIBER_MEMORY",
        0,
        "Most bytes of weights in a transcriber (8G); it unloads the least used model. 0: all.",
    )
    transcriber_cpu_fallback: Switch = setting(
        "CONSERVER_TRANSCRIBER_CPU_FALLBACK",
        False,
        "Whether a model for which the GPU has no room may run on the CPU.",
    )
    transcriber_idle_s: Annotated[float, TimeText, Field(ge=0, allow_inf_nan=False)] = setting(
        "CONSERVER_TRANSCRIBER_IDLE_S",
        0,
        "A transcriber without calls for so long ends, and the next call starts it; 0 is never.",
    )
