"""The words between a worker and its coordinator: one byte each, hints and no more.

They travel over the SEQPACKET pair of the worker's slot; a packet may hold several. A word that is
lost costs at most one TICK_INTERVAL, and one that comes twice costs one empty claim.

    worker -> coordinator
        I   my claim came back empty, and I want work (said after every empty claim, so that a
            coordinator that has been replaced learns of it)
        P   as I, but some of my chains have as many items at work as they may: another idle worker
            may take what I was rung for
        A   my claim was answered with items
        M   as A, and more wait: another idle worker may come for them
        B   I am busy: do not ring me; and if I was rung, ring another one
        S   suspects wait on my lists (beside any other word)
    coordinator -> worker
        R   ring: claim now
        E   run yourself empty, then claim: suspects wait, and only a worker that holds nothing
            may have one
"""

from __future__ import annotations

IDLE = b"I"
PASSED = b"P"
ANSWERED = b"A"
MORE = b"M"
BUSY = b"B"
SUSPECTS = b"S"

RING = b"R"
EMPTY = b"E"
