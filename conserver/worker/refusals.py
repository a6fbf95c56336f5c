"""Refusals: why a claimed item must not run.

    cause                                      found by    Claimed.refused
    max_deliveries deaths were counted         refusal()   None
    its payload is larger than                 claim.lua   ("cut", bytes of the payload)
    CONSERVER_MAX_PAYLOAD_BYTES
    the presigned URL of its callback has      claim.lua   ("expired", seconds since then)
    expired
    its progress cannot be parsed: somebody    intake.py   ("unreadable", the fault)
    has edited the record

The intake asks before an item begins. The dead letter keeps the record exactly as it was claimed.
If the worker dies before it is written, the item comes back and is refused again. No death is
counted then, because the item has not begun.
"""

from __future__ import annotations

from conserver.queue.record import Claimed
from conserver.worker.item import ChainOutcome, OutcomeKind


def refusal(claimed: Claimed, max_deliveries: int, payload_bytes: int) -> ChainOutcome | None:
    """The outcome REFUSED of an item that must not run; None if the item may run.

    Args:
        max_deliveries: after how many counted deaths its chain gives an item up.
        payload_bytes: the size above which claim.lua has cut the payload.
    """
    if claimed.deaths >= max_deliveries:
        return _poison(claimed)
    match claimed.refused:
        case "cut", size_bytes:
            return _refused(
                "oversized",
                f"the pushed document has {size_bytes} bytes, more than {payload_bytes}: store it"
                " at vcon:<uuid> and push its uuid instead",
            )
        case "expired", late_s:
            return _refused(
                "rejected",
                f"the presigned URL of its callback expired {late_s} s before it could begin:"
                " submit it again with a new one",
            )
        case "unreadable", error:
            shown = claimed.state[:200].decode("utf-8", "replace")
            return _refused(
                "rejected",
                f"the progress in its record cannot be read: {error}: {shown} (a requeue runs all"
                " its links again)",
            )
    return None


def _poison(claimed: Claimed) -> ChainOutcome:
    """The outcome of an item with `max_deliveries` counted deaths.

    The text says how the last worker died. It also says that nothing else is to blame: a death is
    counted only if no other item can have caused it (supervisor/death.py).
    """
    times = f"{claimed.deaths} time{'' if claimed.deaths == 1 else 's'}"
    error, note = f"its worker died {times} with nothing else to blame", claimed.last_death
    if "error" in note:
        error += f"; the last time it {note['error']}"
    return _refused(note.get("reason") or "poison", error, note.get("link", ""))


def _refused(reason: str, error: str, link: str = "") -> ChainOutcome:
    return ChainOutcome(OutcomeKind.REFUSED, error, link=link, reason=reason)
