"""Links: the steps of chains, one module each.

A link is a module with

    class Options(pydantic.BaseModel)      optional; extra="forbid". `conserver check` reports
                                           invalid options before anything runs.
    def run(vcon, options, context)        changes the vCon in memory and returns it, or returns
                                           None to stop the chain: the item is filtered, that is,
                                           settled without being stored or passed on. `conserver
                                           check` warns of a `run` that ends without a return.
    def prepare(options) -> None           optional; imports large packages. May be called before a
                                           fork: no sockets, no threads, no CUDA.
    def speech_model(options) -> Model     optional; the transcription.engine.Model that the host's
                                           transcribers hold for the link.
    READS_PAGES = True                     optional; the host keeps page readers for the link.
    COSTLY = True                          optional; the worker makes a checkpoint right after
                                           `run`, so that the link's work is not repeated.

A worker may call `run` again for the same vCon, after a worker's death or after a later link
failed. A link must recognize its own results and add nothing twice. Several chain threads may call
`run` at once, each with another vCon and context.

`run` raises `Filtered(reason)` to stop the chain as None does, `Retry(after_s)` to be called again
later, and `Rejected(reason)` if the document can never be processed. Any other exception is a
failed attempt, which the worker repeats as the chain configures. docs/architecture.md ("Whose fault
an error is") has the rule for choosing between these exceptions.

Links import `conserver.vcon`, `conserver.errors`, `conserver.outbound` (HTTP) and parts of
`storage`. transcribe, read_documents and notify also import `conserver.media`, and notify
`conserver.process.backoff`. No link imports another link.
"""

from __future__ import annotations

from typing import Any, Protocol


class LinkContext(Protocol):
    """What a link can read and request. Each call of `run` gets its own; do not keep it."""

    chain: str  # The names of the chain and of the link in the configuration.
    link: str
    uuid: str  # The vCon's uuid.
    # The number of this run of this link for this item, from 1. It counts earlier runs that were
    # dropped because this or a later link failed. It does not count runs that a death ended.
    attempt: int
    # Whether a failure of this run dead-letters the item (a Retry does not count as a failure).
    last_attempt: bool

    @property
    def log(self) -> Any:
        """A structlog logger bound to worker, vcon, chain and link."""

    def remaining_s(self) -> float | None:
        """Seconds left of the soft time limit; None without one. Use it as a client's timeout."""

    def progress(
        self,
        done: float,
        total: float | None = None,
        unit: str = "",
        *,
        doing: str = "",
        text: str = "",
    ) -> None:
        """Show the progress of this run, such as 130 of 600 "s", to those who follow the item's
        job. A call is cheap.

        Args:
            total: None if it is not known.
            doing: one word, such as "transcribing".
            text: the part of the result that is final already.
        """

    def count(self, name: str, amount: float) -> None:
        """Add `amount` to a counter of this link in /metrics. `name` is "audio_seconds" (length of
        transcribed recordings) or "transcription_seconds" (time that transcribing took).
        """

    def checkpoint(self) -> None:
        """Write the vCon as it is now to Redis, and wait. The work done so far is not repeated."""

    def push(self, list_name: str, uuid: str | None = None) -> None:
        """Push a uuid (None: this vCon's) on a Redis list when the item is settled."""

    def expire(self, seconds: int) -> None:
        """Set the expiry that the document in Redis gets when the item is settled."""

    def throttle(self, after_s: float) -> None:
        """Keep all workers from running this link for `after_s` seconds. This run goes on.

        Call it if the link's server asks its callers to wait, as by a 429 with Retry-After. The
        function `conserver.outbound.endpoint.post` does so for links that use it.
        """

    def check_cancelled(self) -> None:
        """Raise if an operator has cancelled the item or the worker has to stop now.

        A long-running link calls it about once a second and does not catch the exception.
        """
