"""Asks a language model about the dialogs of a vCon. Shared by analyze, check_and_tag and
detect_engagement.

Any server with OpenAI's chat completions will do. There is a checkpoint after each paid answer,
so that a failure at the ninth dialog does not cost the first eight requests again.

The model gets the text of an analysis of the dialog (option `source`), by default its transcript;
`source` may also name the text of documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import orjson
from pydantic import AliasChoices, AnyHttpUrl, BaseModel, ConfigDict, Field, SecretStr

from conserver.errors import Rejected
from conserver.outbound import answers, endpoint, pace
from conserver.vcon.document import Vcon, indices, is_transcript, numbered, structured
from storage.reading import DOCUMENT_TEXT, document_text, documents_of

_MAX_ANSWER_BYTES = 16_777_216


class Source(BaseModel):
    """Which analysis of a dialog is read, and where in the analysis the text is.

    If the type is one of a transcript, transcripts of other types are read, too, if the dialog has
    none of this type: the type depends on who transcribed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    analysis_type: str = "transcript"
    text_location: str | None = None


class OnlyIf(BaseModel):
    """Only vCons with an attachment or analysis of this type whose body holds this text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    section: Literal["attachments", "analysis"]
    type: str
    includes: str


class ChatOptions(endpoint.CallOptions):
    """The options of every link that asks a language model."""

    base_url: AnyHttpUrl = AnyHttpUrl("https://api.openai.com/v1")
    api_key: SecretStr = Field(
        default=SecretStr(""), validation_alias=AliasChoices("api_key", "OPENAI_API_KEY")
    )
    model: str = Field(min_length=1)
    vendor: str = "openai"
    temperature: float | None = Field(default=None, ge=0)
    parameters: dict[str, Any] = Field(default_factory=dict)
    source: Source = Source()
    only_if: OnlyIf | None = None
    sampling_rate: float = Field(default=1, ge=0, le=1)
    requests_per_minute: float | None = Field(default=None, gt=0)
    max_text_characters: int = Field(default=400_000, gt=0)
    read_timeout_s: float = Field(default=120, gt=0)


def prepare(options: ChatOptions) -> None:
    """Import the HTTP library, and check the proxy and the certificates for the endpoint."""
    endpoint.prepare([str(options.base_url)], options.ca_file)


def questions(vcon: Vcon, options: ChatOptions, log: Any) -> Iterator[tuple[dict[str, int], str]]:
    """Yield (place, text) for every dialog that has a text to ask about.

    The place is {"dialog": 0}, as an analysis names its dialog. If `source` names the text of
    documents, the place is that of each document: {"attachment": 0}, or the document's dialog.

    Yields nothing for a vCon that `only_if` or `sampling_rate` excludes. The sampling depends only
    on the uuid, so that every attempt decides alike.

    Skipped dialogs are logged: at WARNING if a transcript cannot be read, at INFO if there is a
    recording without a transcript or a transcript without words, else at DEBUG.

    Args:
        log: the link's logger.
    """
    if not _is_included(vcon, options):
        log.debug("dialogs_skipped", reason="excluded by only_if or sampling_rate")
        return
    if options.source.analysis_type == DOCUMENT_TEXT and options.source.text_location is None:
        yield from _documents(vcon, options, log)
        return
    silent: list[int] = []
    untranscribed: list[int] = []
    for dialog, content in numbered(vcon.dialogs):
        text, unreadable = _text_about(vcon, dialog, options.source)
        if text:
            yield {"dialog": dialog}, text[: options.max_text_characters]
        elif unreadable:
            log.warning("transcript_unreadable", dialog=dialog, found=unreadable)
        elif text is not None:
            silent.append(dialog)
        elif content.get("type") == "recording":
            untranscribed.append(dialog)
        else:
            log.debug("dialogs_skipped", dialogs=[dialog], reason=_missing(options.source))
    if silent:
        log.info("dialogs_skipped", dialogs=silent, reason="the transcript has no words")
    if untranscribed:
        log.info("dialogs_skipped", dialogs=untranscribed, reason=_missing(options.source))


def _missing(source: Source) -> str:
    return f"there is no analysis of type {source.analysis_type}"


def _text_about(vcon: Vcon, dialog: int, source: Source) -> tuple[str | None, list[str]]:
    """The text to ask about ("" if nobody spoke, None if there is none), and what is unreadable."""
    if source.text_location is not None:
        found = find_analysis(vcon, source.analysis_type, {"dialog": dialog})
        if found is None:
            return None, []
        text = text_at(found, source.text_location)
        return text, [] if text else [f"there is no text at {source.text_location}"]

    def is_wanted(part: Any) -> bool:
        return isinstance(part, dict) and source.analysis_type in (
            part.get("type"),
            part.get("purpose"),
        )

    said = vcon.said_in(dialog, is_wanted)
    unreadable = said.unreadable
    if (said.spoken is None or not said.spoken.text) and is_transcript(
        {"type": source.analysis_type}
    ):
        said = vcon.said_in(dialog)
        unreadable = said.unreadable
    return (said.spoken.conversation if said.spoken else None), unreadable


def _documents(vcon: Vcon, options: ChatOptions, log: Any) -> Iterator[tuple[dict[str, int], str]]:
    """(place, text) of each document that has a `document_text` analysis."""
    for part in documents_of(vcon.view):
        places = {name: indices(part.get(name)) for name in ("attachment", "dialog")}
        named = {name: found[0] for name, found in places.items() if found}
        if text := document_text(part):
            yield named, text[: options.max_text_characters]
        else:
            log.info("documents_skipped", **named, reason="it has no text")


def unanswered(
    vcon: Vcon,
    options: ChatOptions,
    context: Any,
    is_answered: Callable[[dict[str, int]], object],
) -> Iterator[tuple[dict[str, int], str]]:
    """Yield the (place, text) of `questions` that have no answer yet.

    It makes a checkpoint between two of them, so that no answer is paid for twice.

    Args:
        context: the link's context.
        is_answered: returns something true for a place that has an answer.
    """
    paid = False
    for place, text in questions(vcon, options, context.log):
        if is_answered(place):
            continue
        if paid:
            context.checkpoint()
        yield place, text
        paid = True


def find_analysis(vcon: Vcon, kind: str, place: Mapping[str, int]) -> dict[str, Any] | None:
    """The first analysis of type `kind` about the dialog or attachment at `place`."""
    for _, analysis in numbered(vcon.analysis):
        if analysis.get("type") == kind and is_about(analysis, place):
            return analysis
    return None


def is_about(analysis: Mapping[str, Any], place: Mapping[str, int]) -> bool:
    """Whether an analysis names the dialog or attachment at `place`."""
    return all(index in indices(analysis.get(name)) for name, index in place.items())


def text_at(analysis: dict[str, Any], location: str) -> str | None:
    """The text at a dotted path of an analysis, into its decoded body; None if there is none."""
    value: Any = {**analysis, "body": structured(analysis)}
    for name in location.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) and value.strip() else None


def ask(
    system: str,
    user: str,
    options: ChatOptions,
    patience: endpoint.Caller,
    response_format: dict[str, Any] | None = None,
) -> str:
    """Asks one question; returns the text of the model's message.

    Raises:
        Retry: the endpoint is in trouble or limits the rate, or `requests_per_minute` does.
        Rejected: the endpoint refuses this question, or the model refuses to answer.
        ValueError: the answer is missing or cut off; another attempt may get a whole one.
    """
    url = str(options.base_url).rstrip("/") + "/chat/completions"
    request: dict[str, Any] = {"model": options.model}
    request["messages"] = [
        *([{"role": "system", "content": system}] if system else []),
        {"role": "user", "content": user},
    ]
    if options.temperature is not None:
        request["temperature"] = options.temperature
    if response_format is not None:
        request["response_format"] = response_format
    request.update(options.parameters)
    headers = {"content-type": "application/json"}
    if key := options.api_key.get_secret_value():
        headers["authorization"] = f"Bearer {key}"
    if options.requests_per_minute is not None:
        pace.keep(url, options.model, options.requests_per_minute, patience)
    body = orjson.dumps(request)
    answer = endpoint.post(url, body, headers, options, patience, _MAX_ANSWER_BYTES)
    return _message(answer.content)


def ask_json(
    system: str,
    user: str,
    options: ChatOptions,
    patience: endpoint.Caller,
    response_format: dict[str, Any],
) -> Any:
    """Asks one question; returns the value of the model's answer, which must be JSON.

    Raises: as `ask`; ValueError also if the answer is not JSON.
    """
    return answers.json_of(ask(system, user, options, patience, response_format))


def _message(content: bytes) -> str:
    try:
        choice = orjson.loads(content)["choices"][0]
        message = choice["message"]
        refusal = message.get("refusal")
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        raise ValueError(f"not an answer of a chat endpoint: {content[:200]!r}") from None
    if refusal:
        raise Rejected(f"the model refuses to answer: {str(refusal)[:200]}")
    if choice.get("finish_reason") == "length":
        raise ValueError("the answer was cut off at the model's limit; raise it in `parameters`")
    return answers.text_of(message)


def _is_included(vcon: Vcon, options: ChatOptions) -> bool:
    rule = options.only_if
    if rule is not None and not any(
        rule.type in (item.get("type"), item.get("purpose")) and rule.includes in _as_text(item)
        for _, item in numbered(vcon.view.get(rule.section) or [])
    ):
        return False
    digest = hashlib.sha256(f"sampling:{vcon.uuid}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48 < options.sampling_rate


def _as_text(item: dict[str, Any]) -> str:
    body = item.get("body")
    return body if isinstance(body, str) else orjson.dumps(body).decode()
