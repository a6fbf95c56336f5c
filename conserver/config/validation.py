"""Converts pydantic's validation errors into problems with instructions.

Settings, configuration and options of plugins share it, so that all messages have one form: the
path (`chains.calls.links[1]`), the invalid value, the allowed values, and a suggestion. Values of
secrets are never shown.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from conserver.errors import Problem
from conserver.telemetry.redact import is_secret_name, redact_text

_SHOWN_CHARS = 60

_MUST_BE = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
    "model_attributes_type": "must be a mapping of names to values",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "set_type": "must be a list",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must have at least {min_length} characters",
    "url_parsing": "must be a URL such as https://host/path",
    "url_scheme": "must be a URL with {expected_schemes}",
}


def problems_of(
    error: ValidationError, model: type[BaseModel], data: object, prefix: str = ""
) -> list[Problem]:
    """A problem for each fault in `error`, which arose when `data` was validated by `model`.

    Args:
        prefix: the path of `data` in the whole file, such as `links.tag.options`.
    """
    faults = error.errors(include_url=False)
    # pydantic reports a list as too short if its entries are invalid; those are reported anyway.
    inside = {fault["loc"][:-1] for fault in faults if fault["loc"]}
    return [
        _problem(
            fault["type"], fault["loc"], fault["msg"], fault.get("ctx", {}), model, data, prefix
        )
        for fault in faults
        if fault["type"] != "too_short" or fault["loc"] not in inside
    ]


def said(fault: Mapping[str, Any]) -> str:
    """What a fault of pydantic's says, in the words of the validator where one of ours found it."""
    return str(fault["msg"]).removeprefix("Value error, ")


def join_path(prefix: str, keys: Iterable[str | int]) -> str:
    """`join_path("chains", ["calls", "links", 1])` is `chains.calls.links[1]`."""
    path = prefix
    for key in keys:
        if isinstance(key, int) and not isinstance(key, bool):
            path += f"[{key}]"
        else:
            path += f".{key}" if path else str(key)
    return path


NEAR = "did you mean"
"""A hint of `suggest` begins with this if a name is close."""


def suggest(word: object, known: Iterable[str]) -> str:
    """A hint: the closest of `known`, else all of them if they are few, else ""."""
    names = sorted(known)
    if not names:
        return ""
    wanted = str(word)
    heads = {name.rpartition(".")[0] for name in (wanted, *names)}
    # A common prefix (`links.`, `storage.`) would make all names look similar.
    alike = len(heads.pop()) if len(heads) == 1 else 0
    lowered = {_folded(name[alike:]): name for name in names}
    near = difflib.get_close_matches(_folded(wanted[alike:]), lowered, n=1, cutoff=0.6)
    if near:
        return f"{NEAR} `{lowered[near[0]]}`?"
    return f"known: {', '.join(names)}" if len(names) <= 30 else ""


def _folded(name: str) -> str:
    return name.lower().replace("-", "_").lstrip(".")


def shown(value: object, *, secret: bool = False) -> str:
    """The value for an error message: shortened, quoted, and hidden if it is a secret."""
    if secret:
        return "the value given (not shown: a secret)"
    if value is None:
        return "empty"
    text = redact_text(str(value)) if isinstance(value, (str, int, float)) else type(value).__name__
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"`{text[:_SHOWN_CHARS]}…`" if len(text) > _SHOWN_CHARS else f"`{text}`"


def _problem(
    kind: str,
    location: Sequence[str | int],
    message: str,
    context: Mapping[str, Any],
    model: type[BaseModel],
    data: object,
    prefix: str,
) -> Problem:
    if location and location[-1] == "[key]":
        keys, *_ = _walk(location[:-1], model, data)
        return Problem(join_path(prefix, keys), "the name must be text", _quotes(keys[-1]))
    keys, known, value, secret = _walk(location, model, data)
    path = join_path(prefix, keys)
    if kind == "extra_forbidden":
        return Problem(path, "is not known here", suggest(keys[-1], known))
    if kind == "missing":
        return Problem(path, "is missing")
    if kind in ("value_error", "assertion_error"):
        return Problem(path, " ".join(str(context.get("error", message)).split()))
    if kind == "too_short":
        least = context.get("min_length", 1)
        wanted = "must not be empty" if least == 1 else f"must have at least {least} entries"
        return Problem(path, wanted)
    if kind not in _MUST_BE:
        return Problem(
            path, f"{message[:1].lower()}{message[1:]}, not {shown(value, secret=secret)}"
        )
    wanted = _MUST_BE[kind].format_map({name: _plain(item) for name, item in context.items()})
    hint = ""
    if kind == "string_type" and isinstance(value, (int, float)):
        hint = _quotes(value)
    elif kind in ("literal_error", "enum"):
        choices = re.findall(r"'([^']*)'", context.get("expected", ""))
        near = suggest(value, choices)
        hint = near if near.startswith("did you mean") else ""
    return Problem(path, f"{wanted}, not {shown(value, secret=secret)}", hint)


def _quotes(value: object) -> str:
    if isinstance(value, bool):
        return "write it in quotes: YAML reads a bare yes, no, on or off as true or false"
    return "write it in quotes"


def _plain(item: object) -> object:
    """An item of pydantic's context; a list of allowed values without its quotes."""
    if isinstance(item, float) and item.is_integer():
        return int(item)
    return item.replace("''", "empty").replace("'", "") if isinstance(item, str) else item


def _walk(
    location: Sequence[str | int], model: type[BaseModel], data: object
) -> tuple[list[str | int], list[str], object, bool]:
    """Follow a fault's location through the data and the model.

    Pydantic's locations also contain names of union members and validators. A step that the data
    does not have is therefore skipped, unless it is the last one (a missing name).

    Returns:
        The keys of the path, the known names at its last step, the value there, and whether that
        value is a secret.
    """
    keys: list[str | int] = []
    known: list[str] = []
    kind: object = model
    value, secret = data, False
    for position, step in enumerate(location):
        inside = (isinstance(value, Mapping) and step in value) or (
            isinstance(value, (list, tuple)) and isinstance(step, int) and step < len(value)
        )
        last = position == len(location) - 1
        if not inside and not (last and isinstance(value, Mapping)):
            continue
        known = _names(kind)
        kind = _inner(kind, step)
        parent, value = value, value[step] if inside else None  # type: ignore[index]
        secret = secret or _holds_secret(kind) or (isinstance(step, str) and is_secret_name(step))
        # pydantic reports a key that YAML read as False as 0; the data has the original key.
        known_as = [key for key in parent if key == step] if isinstance(parent, Mapping) else []
        keys.append(known_as[0] if known_as else step)
    return keys, known, value, secret


def _model_in(kind: object) -> type[BaseModel] | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    if get_origin(kind) in (dict, list, tuple):
        return None
    for part in get_args(kind):
        found = _model_in(part)
        if found is not None:
            return found
    return None


def _names(kind: object) -> list[str]:
    found = _model_in(kind)
    if found is None:
        return []
    return [field.alias or name for name, field in found.model_fields.items()]


def _inner(kind: object, step: str | int) -> object:
    """The type of the value at `step` in a model, mapping or list; None if it is unknown."""
    found = _model_in(kind)
    if found is not None and isinstance(step, str):
        for name, field in found.model_fields.items():
            if step in (name, field.alias):
                return field.annotation
        return None
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    if get_origin(kind) in (list, tuple):
        return get_args(kind)[0]
    for part in get_args(kind):
        if part is not NoneType and get_origin(part) in (dict, list, tuple):
            return _inner(part, step)
    return None


def _holds_secret(kind: object) -> bool:
    if kind in (SecretStr, SecretBytes):
        return True
    return any(_holds_secret(part) for part in get_args(kind))
