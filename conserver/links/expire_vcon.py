"""expire_vcon: lets the document in Redis expire a given time after the item is settled.

    options:
      seconds: 86400

Storages keep it. While the vCon is in work, parked or in another queue's hands, it does not expire.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from conserver.links import LinkContext
from conserver.vcon.document import Vcon


class Options(BaseModel):
    """How long the document stays in Redis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: int = Field(default=86_400, gt=0)


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Ask for the expiry; the vCon is not touched."""
    context.expire(options.seconds)
    return vcon
