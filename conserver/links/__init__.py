"""Links: one file per link, each a step that a chain can name.

A link is a module with

    class Options(pydantic.BaseModel)      optional; extra="forbid". `conserver check` refuses wrong
                                           ones before anything runs.
    def run(vcon, options, context)        changes the vCon in memory and returns it, or returns
                                           None to stop the chain here (filtered: settled without
                                           being stored or passed on, counted).
    def prepare(options) -> None           optional; imports what is heavy. May be called before a
                                           fork: no sockets, no threads, no CUDA.
    COSTLY = True                          optional; the vCon is written safely right after `run`,
                                           so that its work is never paid twice.

`run` may be called again for the same vCon (a worker died, a later link failed): a link finds its
own traces and adds nothing twice. It may be called in several threads at once, each with its own
vCon and context. It raises `Retry(after_s)` to be called again later, `Rejected(reason)` if that
can never help; any other exception is a failed attempt, repeated as the chain says.

Links import `conserver.vcon` and `conserver.errors`; those that reach out, `conserver.endpoint`,
`conserver.fetch` and `conserver.chat`; transcribe, the public functions of
`conserver.transcription`. Nothing else of conserver, and never each other.
"""

from __future__ import annotations

from typing import Any, Protocol


class LinkContext(Protocol):
    """What a link may know and ask for. One per call of `run`; never kept beyond it."""

    chain: str  # The chain's and the link's names in the configuration.
    link: str
    uuid: str  # The vCon's.
    # 1 for the first run of this link on this item. Counts its runs that came to nothing, by its
    # own fault or a later link's; one that its worker's death cut short is not known of.
    attempt: int

    @property
    def log(self) -> Any:
        """A structlog logger bound to worker, vcon, chain and link."""

    def remaining_s(self) -> float | None:
        """Seconds left of the soft time limit, for timeouts handed to clients; None: no limit."""

    def checkpoint(self) -> None:
        """Block until the vCon as it is now is safely written: what was paid is not paid again."""

    def push(self, list_name: str, uuid: str | None = None) -> None:
        """Push a vCon's uuid (this one's if None) on a Redis list, when the item is settled."""

    def expire(self, seconds: int) -> None:
        """Let the document in Redis expire this long after the item is settled."""

    def check_cancelled(self) -> None:
        """Raise if an operator cancelled the item or the worker has to stop now.

        A link that waits or works long calls it about once a second and lets it raise.
        """
