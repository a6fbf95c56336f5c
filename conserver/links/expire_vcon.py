"""expire_vcon: sets how long the document stays in Redis after the item is settled.

    options:
      seconds: 86400

Storages are not affected. The document does not expire while an item of the vCon is in flight,
parked, or in a list.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from conserver.links import LinkContext
from conserver.vcon.document import Vcon


class Options(BaseModel):
    """The time that the document stays in Redis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: int = Field(default=86_400, gt=0)


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Request the expiry; the vCon is not changed."""
    context.expire(options.seconds)
    return vcon
