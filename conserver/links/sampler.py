"""sampler: forwards a share of the vCons and filters all others.

    options:
      method: percentage     percentage | rate | modulo | time_based
      value: 50
      seed: 1                another seed selects other vCons

percentage and rate decide by a hash of the vCon's uuid, not at random. So the decision is the same
in a retry, in a replay, and in a second chain with the same seed.

- percentage: forwards `value` of a hundred vCons (0 to 100).
- rate: forwards the share 1 - exp(-1/value), as vcon-server does: 63 % for 1, 9.5 % for 10.
- modulo: forwards one of `value` vCons, by the same hash as vcon-server.
- time_based: forwards vCons that arrive in a second (since 1970) divisible by `value`.
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
    """The method of selection, and its parameter."""

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
    """The vCon, or None if it is not selected."""
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
    """A number in [0, 1) for each uuid, evenly distributed."""
    digest = hashlib.sha256(f"{seed}:{uuid}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
