"""A link that leaves one mark per run in the vCon and one line per run in a file.

It needs no Redis, so it counts truly while Redis is the one that is broken. It is deliberately not
idempotent: an item whose work was written is never run again, so the marks in a document are as
many as the items that were pushed, or something was done twice or lost.

The vCon's `subject` may name a deed, as "deed" or "deed:argument", done before the mark is left.
"""

from __future__ import annotations

import os
import time
from typing import Any

from pydantic import BaseModel, ConfigDict

from conserver.errors import Rejected, Retry
from conserver.links import LinkContext
from conserver.vcon.document import Vcon

MARK = "mark"


class Options(BaseModel):
    """Where the runs are counted, nowhere if it is empty; how long every run takes."""

    model_config = ConfigDict(extra="forbid")

    runs_file: str = ""
    slow_s: float = 0.0


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon | None:
    """Count this run, do the deed, leave a mark with the chain's name."""
    if options.runs_file:
        _count(options.runs_file, f"{vcon.uuid} {context.chain} {context.link}\n")
    time.sleep(options.slow_s)
    deed, _, argument = str(vcon.view.get("subject") or "").partition(":")
    if deed == "filter":
        return None
    if deed == "paid":
        _pay_once(vcon, context)
        time.sleep(float(argument or 0))
        return vcon
    _do(vcon, deed, argument, context)
    _mark(vcon, context)
    return vcon


def marks(document: dict[str, Any], chain: str) -> int:
    """How many marks of a chain a document holds."""
    return sum(
        1
        for analysis in document.get("analysis") or ()
        if analysis.get("type") == MARK and analysis.get("product") == chain
    )


def _do(vcon: Vcon, deed: str, argument: str, context: LinkContext) -> None:
    if deed == "sleep":
        time.sleep(float(argument))
    elif deed == "exit":
        os._exit(3)
    elif deed == "reject":
        raise Rejected(argument or "not wanted")
    elif deed == "fail" and context.attempt <= int(argument or 10**9):
        raise ValueError(f"attempt {context.attempt} fails")
    elif deed == "unwritable":
        vcon.data["mark"] = object()
    elif deed == "retry" and context.attempt == 1:
        raise Retry(float(argument or 0.05), "not yet")


def _mark(vcon: Vcon, context: LinkContext) -> None:
    vcon.add_analysis(
        {
            "type": MARK,
            "dialog": 0,
            "vendor": "test",
            "product": context.chain,
            # Two marks are never equal: a merge takes equal additions for one.
            "body": os.urandom(8).hex(),
            "encoding": "none",
        }
    )


def _pay_once(vcon: Vcon, context: LinkContext) -> None:
    """As a link that costs money does: find what was paid, else pay and have it written."""
    if not marks(vcon.view, context.chain):
        _mark(vcon, context)
        context.checkpoint()


def _count(path: str, line: str) -> None:
    """One short write in append mode: lines of several processes do not mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
