"""Extracts the answer from the message of a language model.

Models add more to a message than the answer: their thoughts between `<think>` tags, a sentence
before the JSON, a fence around the JSON. Some split the text into parts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

# Some servers cut off the opening tag, because it is part of the prompt.
_THOUGHTS = re.compile(r".*</(think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
_UNFINISHED = re.compile(r"\s*<(think|thinking|thought|reasoning)>", re.IGNORECASE)
_FENCED = re.compile(r"```[\w-]*[ \t]*\n(.*?)```", re.DOTALL)
_SHOWN_CHARS = 200


def text_of(message: Mapping[str, Any]) -> str:
    """The answer in a message of a chat completion, without the model's thoughts.

    Raises:
        ValueError: there is no answer; another attempt may get one.
    """
    content = message.get("content")
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        content = "".join(part for part in parts if isinstance(part, str))
    if not isinstance(content, str) or not content.strip():
        raise ValueError("the model gave an empty answer")
    answer = _THOUGHTS.sub("", content, count=1)
    if not answer.strip() or _UNFINISHED.match(answer):
        raise ValueError("the model gave its thoughts and no answer")
    return answer.strip() if answer != content else answer


def json_of(text: str) -> Any:
    """The JSON value in an answer: the whole text, else a fenced block, else the first value in
    the text.

    Raises:
        ValueError: there is no JSON; another attempt may get some.
    """
    fenced = _FENCED.findall(text)
    for candidate in (text.strip(), text.strip().strip("`").removeprefix("json"), *fenced):
        try:
            return orjson.loads(candidate)
        except orjson.JSONDecodeError:
            continue
    start = min((at for sign in "{[" if (at := text.find(sign)) >= 0), default=-1)
    try:
        if start >= 0:
            value, _ = json.JSONDecoder().raw_decode(text, start)
            return value
    except (ValueError, RecursionError):
        pass
    raise ValueError(f"the model was asked for JSON and gave {text[:_SHOWN_CHARS]!r}")
