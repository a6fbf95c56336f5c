"""A link and a storage whose mood is a file: foul while it is there, fair when it is gone.

As a link it dead-letters (`mood: reject`) or parks until a moment that is the same for all
(`mood: park`); as a storage it is away. What it stores is counted and dropped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from conserver.errors import Rejected, Retry
from conserver.links import LinkContext
from conserver.vcon.document import Vcon
from storage.contract import Document, Outcome, Stored


class Options(BaseModel):
    """Which file, and for a link: what it does in foul weather."""

    model_config = ConfigDict(extra="forbid")

    file: str
    mood: Literal["reject", "park"] = "reject"
    timeout_s: float = 30


def run(vcon: Vcon, options: Options, _context: LinkContext) -> Vcon:
    """Add a tag in fair weather."""
    foul = Path(options.file)
    if foul.exists():
        if options.mood == "reject":
            raise Rejected("the weather is foul")
        raise Retry(max(0.01, float(foul.read_text()) - time.time()), "until the weather clears")
    vcon.add_tag("weather", "fair")
    return vcon


class Storage:
    """Away in foul weather."""

    def __init__(self, name: str, options: Options) -> None:
        self._foul = Path(options.file)

    def open(self) -> None:
        self.ready()

    def close(self) -> None:
        """Nothing is open."""

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        self.ready()
        return [Stored() for _ in documents]

    def get(self, uuid: str) -> bytes | None:
        return None

    def delete(self, uuid: str) -> bool:
        return False

    def ready(self) -> None:
        if self._foul.exists():
            raise ConnectionError("the weather is foul")


def prepare(options: Any) -> None:
    """Nothing is heavy here."""
