"""The caller's wishes for the transcription of one recording, stored in its vCon.

A request is an attachment with a purpose of its own, so it is present wherever the vCon is: on
another host, at a second attempt, after a requeue of the dead letter. For its dialog it overrules
the options of the link transcribe. Only the configuration chooses the model and other costs.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from conserver.errors import Rejected
from conserver.media.transcription.languages import LANGUAGES
from conserver.vcon.document import Vcon, dialogs_of, structured

PURPOSE = "transcription_request"
TEXT_CHARS_MAX = 10_000
"""The longest prompt or hotwords. Whisper reads only the last 200 tokens or so."""

Text = Annotated[str, Field(max_length=TEXT_CHARS_MAX)]
Temperature = Annotated[float, Field(ge=0, le=1)]


class Request(BaseModel):
    """The options of the link transcribe that a caller may choose. None: the link's own option.

    follow: whether the link publishes the text so far in the job, for a caller who streams it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    language: str | None = None
    translate: bool | None = None
    prompt: Text | None = None
    hotwords: Text | None = None
    temperature: Annotated[tuple[Temperature, ...], Field(min_length=1, max_length=10)] | None = (
        None
    )
    words: bool | None = None
    vad_threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    vad_pause_ms: Annotated[int, Field(ge=0, le=60_000)] | None = None
    follow: bool = False

    @field_validator("language")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in LANGUAGES:
            raise ValueError(f"Whisper knows no language `{value[:40]}`: codes such as en, de, fr")
        return value

    @classmethod
    def of(cls, vcon: Vcon, dialog: int) -> Self | None:
        """The last request for a dialog; None if there is none.

        Raises:
            Rejected: a request is invalid.
        """
        count = len(vcon.dialogs)
        for attachment in reversed(vcon.attachments):
            if not isinstance(attachment, dict) or attachment.get("purpose") != PURPOSE:
                continue
            if dialog in dialogs_of(attachment, count):
                try:
                    return cls.model_validate(structured(attachment))
                except ValidationError as error:
                    first = error.errors(include_url=False, include_input=False)[0]
                    where = ".".join(str(part) for part in first["loc"])
                    raise Rejected(f"its {PURPOSE}: {where}: {first['msg']}") from None
        return None

    def overruling(self) -> dict[str, Any]:
        """The options of the link that the request replaces, by name."""
        return self.model_dump(exclude_none=True, exclude={"follow"})

    def attachment(self, start: str, dialog: int = 0) -> dict[str, Any]:
        """The request as an attachment. start: the time of the request, in ISO 8601."""
        return {
            "purpose": PURPOSE,
            "start": start,
            "party": 0,
            "dialog": dialog,
            "mediatype": "application/json",
            "encoding": "json",
            "body": self.model_dump_json(exclude_none=True, exclude_defaults=True),
        }
