"""Reads the form that OpenAI's clients send for a transcription.

An array is a repeated field `x[]` or `x`, or one JSON list. An object is JSON, or fields
`x[member]`. Fields without effect here (include, known_speaker_names, ...) are accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from conserver.config.validation import said
from conserver.http.api.multipart import Form
from conserver.http.api.problems import ProblemError
from conserver.media.transcription.languages import LANGUAGES
from conserver.media.transcription.request import Request

FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
TRANSLATED_FORMATS = FORMATS[:-1]
"""OpenAI's translations have no `diarized_json`."""

PARTS = ("segment", "word")
_WHISPERS = {"jv": "jw", "nb": "no"}
"""ISO 639 code -> Whisper's own code for the language."""

_SENT_AS = {
    "hotwords": "keywords",
    "vad_threshold": "chunking_strategy[threshold]",
    "vad_pause_ms": "chunking_strategy[silence_duration_ms]",
}
"""Member of a transcription request -> the field of the form that it comes from."""

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The fields of a form, checked.

    Attributes:
        model: the model's name; "" for the default.
        form: the format of the answer, one of FORMATS.
        parts: which parts `verbose_json` has: segment, word.
        stream: whether the answer is a stream of events.
        presigned_url: the URL to which the result is sent; "" for none.
        request: the wishes that are stored in the vCon.
    """

    model: str
    form: str
    parts: tuple[str, ...]
    stream: bool
    presigned_url: str
    request: Request


def wanted_of(form: Form, *, translate: bool) -> Wanted:
    """What a form asks for. Raises ProblemError: 400."""
    wanted = form.one("response_format").strip() or "json"
    formats = TRANSLATED_FORMATS if translate else FORMATS
    if wanted not in formats:
        raise invalid("response_format", f"must be one of {', '.join(formats)}")
    parts = tuple(dict.fromkeys(listed(form, "timestamp_granularities"))) or ("segment",)
    if not set(parts) <= set(PARTS):
        raise invalid("timestamp_granularities", f"are of {', '.join(PARTS)}")
    stream = _switch(form, "stream")
    chunking = _object(form, "chunking_strategy")
    temperature = _number(form.one("temperature"), "temperature")
    members = {
        "language": _language(form),
        "translate": translate or None,
        "prompt": form.one("prompt") or None,
        "hotwords": ", ".join([*listed(form, "keywords"), *listed(form, "hotwords")]) or None,
        # 0 is left out: without a temperature the link begins at 0 and raises it as needed.
        "temperature": (temperature,) if temperature else None,
        "words": True if "word" in parts else None,
        "vad_threshold": _number(chunking.get("threshold"), "chunking_strategy"),
        "vad_pause_ms": _whole(chunking.get("silence_duration_ms"), "chunking_strategy"),
        "follow": stream,
    }
    try:
        request = Request.model_validate(members)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = str(first["loc"][0])
        raise invalid(_SENT_AS.get(field, field), said(first)) from None
    return Wanted(
        model=form.one("model").strip(),
        form=wanted,
        parts=parts,
        stream=stream,
        presigned_url=form.one("upload_presigned_url").strip(),
        request=request,
    )


def invalid(param: str, what: str) -> ProblemError:
    """400: a field of the form cannot be used."""
    return ProblemError(400, f"{param}: {what}", "invalid-value", param=param)


def listed(form: Form, name: str) -> list[str]:
    """The values of an array, in any of its spellings."""
    found: list[str] = []
    for key, values in form.fields.items():
        if key == name or (key.startswith(f"{name}[") and key.endswith("]")):
            for value in values:
                found += _items(name, value.strip())
    return [item for item in found if item]


def _items(name: str, text: str) -> Sequence[str]:
    if not text.startswith("["):
        return [text]
    for spelling in (text, text.replace("'", '"')):  # JSON, or Python's
        try:
            items = orjson.loads(spelling)
        except orjson.JSONDecodeError:
            continue
        if isinstance(items, list) and all(isinstance(item, str) for item in items):
            return items
    raise invalid(name, "is no list of texts")


def _object(form: Form, name: str) -> dict[str, Any]:
    """An object's members: from JSON, and from fields such as `name[member]`."""
    members: dict[str, Any] = {
        key.removeprefix(f"{name}[").removesuffix("]"): values[-1]
        for key, values in form.fields.items()
        if key.startswith(f"{name}[")
    }
    text = form.one(name).strip()
    if text and text != "auto":
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            value = None
        if not isinstance(value, dict):
            raise invalid(name, "must be `auto` or a JSON object")
        members |= value
    return members


def _language(form: Form) -> str | None:
    """The language that the form names. None: it names none or several, so detect it."""
    codes = [text for text in (form.one("language"), *listed(form, "languages")) if text.strip()]
    if not codes:
        return None
    known = []
    for text in codes:
        code = text.strip().lower().replace("_", "-").partition("-")[0]
        code = _WHISPERS.get(code, code)
        if code not in LANGUAGES:
            raise invalid("language", f"`{text[:40]}` is no language of Whisper: en, de, fr, ...")
        known.append(code)
    return known[0] if len(set(known)) == 1 else None


def _switch(form: Form, name: str) -> bool:
    text = form.one(name).strip().lower()
    if text not in (*_TRUE, *_FALSE):
        raise invalid(name, "must be true or false")
    return text in _TRUE


def _number(value: Any, name: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise invalid(name, "must be a number") from None


def _whole(value: Any, name: str) -> int | None:
    number = _number(value, name)
    if number is None:
        return None
    if not number.is_integer():
        raise invalid(name, "must be a whole number")
    return int(number)
