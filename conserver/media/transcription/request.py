"""What a caller wants of the transcription of one recording, kept in its vCon.

It is an attachment of its own purpose, so that it goes wherever the vCon goes: to another host, to
a second attempt, to a replay of a dead letter. The link transcribe reads it and lets it overrule
its own options for that dialog. The model and what it costs are the configuration's alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from conserver.errors import Rejected
from conserver.media.transcription.languages import LANGUAGES
from conserver.vcon.document import Vcon, dialogs_of, structured

PURPOSE = "transcription_request"
TEXT_CHARS_MAX = 10_000
"""Of a prompt or of hotwords. Whisper reads the last 200 tokens or so."""

Text = Annotated[str, Field(max_length=TEXT_CHARS_MAX)]
Temperature = Annotated[float, Field(ge=0, le=1)]


class Request(BaseModel):
    """The options of the link transcribe that a caller may choose; None leaves the link's own.

    follow: whether somebody listens while it is transcribed; then the text so far is shown.
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
        """The request for a dialog, the last of several; None without one.

        Raises:
            Rejected: there is one that cannot be understood.
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
        """The options of the link that are to be others, by their names."""
        return self.model_dump(exclude_none=True, exclude={"follow"})

    def attachment(self, start: str, dialog: int = 0) -> dict[str, Any]:
        """It as an attachment. start: when it was made, in ISO 8601."""
        return {
            "purpose": PURPOSE,
            "start": start,
            "party": 0,
            "dialog": dialog,
            "mediatype": "application/json",
            "encoding": "json",
            "body": self.model_dump_json(exclude_none=True, exclude_defaults=True),
        }
