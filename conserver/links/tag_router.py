"""tag_router: pushes a vCon's uuid on other lists, by its tags.

    options:
      tag_routes: {urgent: urgent_calls, "team:blue": [blue_in, audit_in]}
      forward_original: true       false: the vCon is filtered here, even if no route matches

A route names a tag with any value ("urgent") or a tag with one value ("team:blue"). Each list gets
the uuid exactly once, in the script that settles the item.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from conserver.links import LinkContext
from conserver.vcon.document import Vcon, is_tags, numbered, tag_texts


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


ListNames = Annotated[
    list[Annotated[str, Field(min_length=1)]], BeforeValidator(_as_list), Field(min_length=1)
]


class Options(BaseModel):
    """The routes, and whether the chain goes on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tag_routes: dict[str, ListNames] = Field(min_length=1)
    forward_original: bool = True


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon | None:
    """Request the pushes; return None if the original is not forwarded."""
    for index, attachment in numbered(vcon.attachments):
        if is_tags(attachment) and tag_texts(attachment) is None:
            context.log.warning("tags_unreadable", attachment=index)
    targets: dict[str, None] = {}
    for text in vcon.tag_texts():
        for key in (text, text.partition(":")[0]):
            targets.update(dict.fromkeys(options.tag_routes.get(key, ())))
    for target in targets:
        context.push(target)
    return vcon if options.forward_original else None
