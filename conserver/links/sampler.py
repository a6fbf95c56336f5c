"""sampler: lets a part of the vCons through and filters the others.

    options:
      method: percentage     percentage | rate | modulo | time_based
      value: 50
      seed: 1                another seed chooses others

percentage and rate choose by the vCon's uuid, not by dice: a vCon that comes again (a retry, a
replay, a second chain with the same seed) meets the same decision.

- percentage: `value` of a hundred go through (0 to 100).
- rate: the share 1 - exp(-1/value), as vcon-server has it: 63 % for 1, 9.5 % for 10.
- modulo: one of `value`, by the same hash as vcon-server's: the same ones.
- time_based: those that come within a second whose number is a multiple of `value`.
"""

from __future__ import annotations

import hashlib
import math
import time
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from conserver.links import LinkContext
from conserver.vcon.document import Vcon

Method = Literal["percentage", "rate", "modulo", "time_based"]


class Options(BaseModel):
    """How to choose, and how many."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method = "percentage"
    value: float = 50
    seed: int | str | None = None

    @model_validator(mode="after")
    def _check_value(self) -> Self:
        if self.method == "percentage":
            if not 0 <= self.value <= 100:
                raise ValueError(f"value must be from 0 to 100 for percentage, not {self.value:g}")
        elif self.method == "rate":
            if not 0 < self.value < math.inf:
                raise ValueError(f"value must be above 0 for rate, not {self.value:g}")
        elif self.value < 1 or not self.value.is_integer():
            raise ValueError(
                f"value must be a whole number from 1 for {self.method}, not {self.value:g}"
            )
        return self


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon | None:
    """The vCon, or None for one that was not chosen."""
    return vcon if _chosen(vcon.uuid, options) else None


def _chosen(uuid: str, options: Options) -> bool:
    if options.method == "percentage":
        return _place(uuid, options.seed) * 100 < options.value
    if options.method == "rate":
        return -math.log(1 - _place(uuid, options.seed)) * options.value <= 1
    if options.method == "modulo":
        number = int.from_bytes(hashlib.sha256(uuid.encode()).digest()[:4], "big")
        return number % int(options.value) == 0
    return int(time.time()) % int(options.value) == 0


def _place(uuid: str, seed: int | str | None) -> float:
    """A number from 0 up to, not including, 1 for each uuid, spread evenly."""
    digest = hashlib.sha256(f"{seed}:{uuid}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
