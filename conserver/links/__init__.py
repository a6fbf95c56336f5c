"""Links: the steps of chains, one module each.

A link is a module with

    class Options(pydantic.BaseModel)      optional; extra="forbid". `conserver check` reports
                                           invalid options before anything runs.
    def run(vcon, options, context)        changes the vCon in memory and returns it, or returns
                                           None to stop the chain: the item is filtered, that is,
                                           settled without being stored or passed on. A `run` that
                                           ends without a return is warned of.
    def prepare(options) -> None           optional; imports large packages. May be called before a
                                           fork: no sockets, no threads, no CUDA.
    def speech_model(options) -> Model     optional; the transcription.engine.Model that the host's
                                           transcribers hold for the link.
    READS_PAGES = True                     optional; the host keeps page readers for the link.
    COSTLY = True                          optional; the vCon is checkpointed right after `run`, so
                                           that its work is not repeated.

`run` may be called again for the same vCon (a worker died, a later link failed). A link must
recognize its own results and add nothing twice. `run` may be called in several threads at once,
each with its own vCon and context. It raises `Filtered(reason)` to stop the chain as None does,
`Retry(after_s)` to be called again later, and `Rejected(reason)` if the document can never be
processed. Any other exception is a failed attempt,
which is repeated as the chain configures. docs/architecture.md ("Whose fault an error is") has the
rule for choosing between them.

Links import `conserver.vcon.document` and `conserver.errors`; links that make HTTP requests,
`conserver.outbound`; transcribe, the public functions of `conserver.media.transcription`;
read_documents, those of `conserver.media.extraction`; notify, `conserver.process.backoff`. They
import nothing else of conserver, and never each other.
"""

from __future__ import annotations

from typing import Any, Protocol


class LinkContext(Protocol):
    """What a link can read and request. One per call of `run`; a link must not keep it."""

    chain: str  # The names of the chain and of the link in the configuration.
    link: str
    uuid: str  # The vCon's uuid.
    # The number of this run of this link for this item, from 1. Counts earlier runs whose result
    # was dropped because this or a later link failed, but not runs that the worker's death ended.
    attempt: int
    # Whether a failure of this run dead-letters the item (a Retry does not count as a failure).
    last_attempt: bool

    @property
    def log(self) -> Any:
        """A structlog logger bound to worker, vcon, chain and link."""

    def remaining_s(self) -> float | None:
        """Seconds left of the soft time limit, for timeouts of clients; None without a limit."""

    def progress(
        self,
        done: float,
        total: float | None = None,
        unit: str = "",
        *,
        doing: str = "",
        text: str = "",
    ) -> None:
        """Show how far this run is, such as 130 of 600 "s", to whoever follows the item's job.

        It costs nothing: call it as often as you like.

        Args:
            total: None where it is not known.
            doing: in a word, such as "transcribing".
            text: the beginning of the result, as far as it will not change any more.
        """

    def count(self, name: str, amount: float) -> None:
        """Add to a number that /metrics tells of this link: "audio_seconds" of recordings that were
        transcribed, and the "transcription_seconds" that it took.
        """

    def checkpoint(self) -> None:
        """Block until Redis has the vCon as it is now, so that work up to here is not repeated."""

    def push(self, list_name: str, uuid: str | None = None) -> None:
        """Push a uuid (None: this vCon's) on a Redis list when the item is settled."""

    def expire(self, seconds: int) -> None:
        """Set the expiry that the document in Redis gets when the item is settled."""

    def throttle(self, after_s: float) -> None:
        """Let no item come to this link for so many seconds, in any worker: its server has asked
        all callers to wait, such as by a 429 with Retry-After. This run goes on.

        `conserver.outbound.endpoint` calls it; a link with a client of its own does it itself.
        """

    def check_cancelled(self) -> None:
        """Raise if an operator has cancelled the item or the worker has to stop now.

        A link that runs for long calls it about once a second and does not catch what it raises.
        """
