"""Declares the metrics that processes count themselves (cells.py).

Names follow Prometheus's conventions (https://prometheus.io/docs/practices/naming/): base units,
`_total` for counters. Label values are names from the configuration, routes and short lists of
words; never a uuid, an error's text or a path. operations/monitoring has the other metrics, which
are read from Redis and the system at the moment of a scrape.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """One metric: its name (a counter's without `_total`), kind, meaning, and the names of its
    labels. buckets: upper bounds of a histogram, without +Inf.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Buckets for durations of milliseconds to seconds."""
LONG_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Buckets for durations of up to minutes."""
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# ---- items, in workers ---------------------------------------------------------------------------

CLAIMED = Metric(
    "conserver_items_claimed",
    "counter",
    "Items that workers took from a list; one that comes back counts again.",
    ("list",),
)
ITEMS = Metric(
    "conserver_items",
    "counter",
    "Items that ended: done, filtered by a link, cancelled by an operator, or dead letters.",
    ("chain", "outcome"),
)
OUTCOMES = ("done", "filtered", "cancelled", "dead")
DEAD = Metric(
    "conserver_items_dead_lettered",
    "counter",
    "Items that became dead letters, by reason.",
    ("chain", "reason"),
)
REASONS = ("failed", "rejected", "unavailable", "poison", "time_limit", "oversized", "other")
PARKED = Metric(
    "conserver_items_parked",
    "counter",
    "How often items were set aside: for a retry, until a storage is back, until the slot of a"
    " rate, or while a server throttles its link.",
    ("chain", "cause"),
)
CAUSES = ("retry", "storage", "rate", "throttled")
ATTEMPTS_FAILED = Metric(
    "conserver_attempts_failed",
    "counter",
    "Attempts that a link ended with an error or asked to repeat.",
    ("chain", "link"),
)
ITEM_S = Metric(
    "conserver_item_duration_seconds",
    "histogram",
    "From the claim of an item to its end in the same worker, storages included.",
    ("chain",),
    LONG_S,
)
LINK_S = Metric(
    "conserver_link_duration_seconds",
    "histogram",
    "One run of a link, with the checkpoints that it asks for.",
    ("chain", "link"),
    LONG_S,
)

# ---- storages, in workers ------------------------------------------------------------------------

STORAGE_S = Metric(
    "conserver_storage_write_duration_seconds",
    "histogram",
    "One call of a storage that writes the documents which wait.",
    ("storage",),
    SHORT_S,
)
STORAGE_WRITES = Metric(
    "conserver_storage_writes",
    "counter",
    "Documents by what a storage answered: stored, rejected or unavailable.",
    ("storage", "outcome"),
)
STORAGE_OUTCOMES = ("stored", "rejected", "unavailable")

# ---- speech --------------------------------------------------------------------------------------

AUDIO_S = Metric(
    "conserver_audio_seconds",
    "counter",
    "Seconds of recordings that were transcribed.",
    ("chain", "link"),
)
TRANSCRIPTION_S = Metric(
    "conserver_transcription_seconds",
    "counter",
    "Seconds that transcribing them took, waiting for the model included.",
    ("chain", "link"),
)
WINDOWS = Metric(
    "conserver_speech_windows",
    "counter",
    "Windows of speech that a transcriber has finished: answered, or failed.",
    ("device", "outcome"),
)
WINDOW_S = Metric(
    "conserver_speech_window_seconds",
    "counter",
    "Seconds of speech in the windows that were answered.",
    ("device",),
)
BATCH_ROWS = Metric(
    "conserver_speech_batch_rows",
    "histogram",
    "Windows that a transcriber computed at once.",
    ("device",),
    ROWS,
)
BATCH_S = Metric(
    "conserver_speech_batch_duration_seconds",
    "histogram",
    "How long a batch was computed.",
    ("device",),
    LONG_S,
)
SPEECH_WAIT_S = Metric(
    "conserver_speech_queue_wait_seconds",
    "histogram",
    "How long the first window of a batch had waited for it.",
    ("device",),
    LONG_S,
)
SPEECH_MEMORY = Metric(
    "conserver_speech_device_memory_bytes",
    "gauge",
    "Memory in use on the device, by all processes; on a CPU, of the transcriber.",
    ("device",),
)
OUT_OF_MEMORY = Metric(
    "conserver_speech_out_of_memory",
    "counter",
    "Times that a device was full: smaller batches followed, a smaller model, or a failure.",
    ("device", "step"),
)
MEMORY_STEPS = ("rows", "model", "failed")

# ---- the HTTP API --------------------------------------------------------------------------------

HTTP_REQUESTS = Metric(
    "conserver_http_requests",
    "counter",
    "Requests by route template, not by path; `none` has no route.",
    ("method", "route", "status"),
)
HTTP_S = Metric(
    "conserver_http_request_duration_seconds",
    "histogram",
    "From a request to the end of its answer.",
    ("method", "route"),
    SHORT_S,
)

# ---- workers -------------------------------------------------------------------------------------

THREADS = Metric(
    "conserver_worker_threads", "gauge", "Items that a worker can run at once.", ("slot",)
)

COUNTED = (
    CLAIMED, ITEMS, DEAD, PARKED, ATTEMPTS_FAILED, ITEM_S, LINK_S, STORAGE_S, STORAGE_WRITES,
    AUDIO_S, TRANSCRIPTION_S, WINDOWS, WINDOW_S, BATCH_ROWS, BATCH_S, SPEECH_WAIT_S, SPEECH_MEMORY,
    OUT_OF_MEMORY, HTTP_REQUESTS, HTTP_S, THREADS,
)  # fmt: skip
"""All metrics of this module."""
