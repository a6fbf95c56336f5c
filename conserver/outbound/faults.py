"""Decides whose fault an HTTP answer is: the document's, the machine's, or the moment's.

Only a fault of the document is final (`Rejected`); docs/architecture.md has the rule. The same
status means different faults for an endpoint of the configuration and for a URL in a document:

    fault of       endpoint of the configuration             URL in a document
    document       413                                       410
    moment         408, 423, 424, 425, 429, 5xx              202, 408, 423, 424, 425, 429, 5xx
    machine        3xx, 401, 403, 404, 405, 407, 410, ...
    nobody knows   all others (400, 409, 422, ...)           all others (204, 401, 403, 404, ...)

The URL, the headers and the credentials of an endpoint are the same for all documents. If they are
wrong, no document is at fault, and none is dead-lettered. 400 and 422 may concern this document or
a wrong option.

A URL in a document may answer 403 or 404 until its upload has finished or the link has become
valid. Until then it may also answer with nothing, with half of the content, or with a web page.
"""

from __future__ import annotations

from typing import Literal

from conserver.errors import ConserverError, Rejected, Retry

Fault = Literal["document", "machine", "moment", "unknown"]

_MOMENT = frozenset({408, 423, 424, 425, 429})
_MACHINE = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 411, 414, 415, 417, 421, 426, 431})
_NOT_READY, _GONE, _TOO_LARGE, _LEGAL = 202, 410, 413, 451


class FailedAttemptError(ConserverError):
    """A failure of unknown cause. It counts as a failed attempt of the link.

    The worker repeats the attempt up to the chain's `retries`, then dead-letters the item.
    """


def of_endpoint(status: int) -> Fault:
    """Whose fault an answer of a configured endpoint is. `status` is not 2xx."""
    if status in _MOMENT or status >= 500:
        return "moment"
    if status < 400 or status in _MACHINE or status == _LEGAL:
        return "machine"
    return "document" if status == _TOO_LARGE else "unknown"


def of_content(status: int) -> Fault:
    """Whose fault an answer for a document's URL is. `status` is 202, 204, 205 or not 2xx."""
    if status == _NOT_READY or status in _MOMENT or status >= 500:
        return "moment"
    return "document" if status == _GONE else "unknown"


def of_another_content(problem: str) -> ConserverError:
    """The exception if a document's URL answers with other content than the vCon promises."""
    return exception_for("unknown", problem)


def exception_for(fault: Fault, problem: str, after_s: float | None = None) -> ConserverError:
    """The exception for a fault: Rejected, FailedAttemptError, or Retry.

    Args:
        problem: the message, for people.
        after_s: the wait that the server asked for; None without one.
    """
    if fault == "document":
        return Rejected(problem)
    if fault == "unknown":
        return FailedAttemptError(problem)
    if fault == "machine":
        problem += " (the same for every vCon: check the link's URL and credentials)"
    return Retry(after_s, problem)
