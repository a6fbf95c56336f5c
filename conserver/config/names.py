"""Types of names in the configuration, and the base class of its sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

RESERVED_PREFIXES = ("conserver:", "DLQ:", "vcon:")


def check_list_name(name: str) -> str:
    """Return the name if an ingress or egress list may have it, else raise ValueError."""
    if not name:
        raise ValueError("the name of a list must not be empty")
    if "\n" in name or "\r" in name:
        raise ValueError("the name of a list must be one line")
    for prefix in RESERVED_PREFIXES:
        if name.startswith(prefix):
            raise ValueError(
                f"the name of a list must not begin with `{prefix}`, which Conserver uses itself"
            )
    return name


def _check_is_name(value: object) -> object:
    if isinstance(value, Mapping):
        name = next(iter(value), "name") if len(value) == 1 else "name"
        raise ValueError(
            f"must be a name such as `{name}`, not a mapping: options belong to the entry of that "
            "name under `links` or `storages`"
        )
    return value


PluginName = Annotated[str, BeforeValidator(_check_is_name)]
ListName = Annotated[str, AfterValidator(check_list_name)]


class Section(BaseModel):
    """A section of the file: frozen, and without unknown entries."""

    model_config = ConfigDict(frozen=True, extra="forbid")
