"""The callback of a job: a presigned URL that gets the result, or a signed webhook.

A caller gives a Callback with its job. Everything that needs no network is checked at once. Redis
keeps the callback in the job's hash. No answer, log line or dead letter shows its query, its
headers or its signature.

A presigned URL contains the time at which it expires. `expires_at` reads this time in the forms of
S3 and similar servers (X-Amz-Date and X-Amz-Expires, also with Goog or Oss), of CloudFront and
older S3 and GCS (Expires), and of Azure (se).
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from conserver.outbound.addresses import Address, named

Kind = Literal["put", "webhook"]
Format = Literal["json", "text", "srt", "vtt", "verbose_json", "diarized_json", "vcon"]
End = Literal["completed", "filtered", "cancelled", "failed"]
ENDS: tuple[End, ...] = ("completed", "filtered", "cancelled", "failed")

URL_CHARS_MAX = 8192
HEADERS_MAX = 20
HEADER_CHARS_MAX = 4096
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
# A value without white space at its ends; h11 refuses such white space.
_HEADER_VALUE = re.compile(r"([\x21-\x7e\x80-\xff]+([\t ]+[\x21-\x7e\x80-\xff]+)*)?")
# Headers that only the HTTP client may set.
_OWN_HEADERS = frozenset(
    "host content-length transfer-encoding connection upgrade te trailer expect".split()
)
_HIDDEN_CHARS_MIN = 6
_STAMP = re.compile(r"\d{8}T\d{6}Z")
_SECONDS = re.compile(r"\d{1,12}")


class Callback(BaseModel):
    """Where and how the end of a job is sent.

    Attributes:
        kind: put sends the result to a presigned URL; webhook sends a signed event.
        format: the format of the result. A webhook without a format contains no result.
        events: the ends of the job that are sent.
        key: the name of the secret that signs a webhook; "": the default secret.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: SecretStr = Field(description="http or https.")
    kind: Kind = Field(
        default="webhook", description="put: a presigned URL; webhook: a signed POST."
    )
    format: Format | None = Field(default=None, description="Of the result that is sent.")
    events: Annotated[tuple[End, ...], Field(min_length=1)] = Field(
        default=ENDS, description="The ends of the job that are told."
    )
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Sent with it, such as Authorization."
    )
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = Field(
        default="", description="The name of the secret that signs a webhook."
    )

    @classmethod
    def presigned(cls, url: str, wanted: str = "json") -> Self:
        """The callback of a presigned URL. Raises pydantic.ValidationError."""
        return cls.model_validate({"kind": "put", "url": url, "format": wanted})

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: SecretStr) -> SecretStr:
        _check_url(value.get_secret_value())
        return value

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        if len(value) > HEADERS_MAX:
            raise ValueError(f"at most {HEADERS_MAX} headers are sent")
        for name, secret in value.items():
            _check_header(name, secret.get_secret_value())
        return value

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if self.kind == "put" and self.key:
            raise ValueError("key: a presigned URL is not signed again; only a webhook is")
        return self

    @property
    def shown(self) -> str:
        """The URL without credentials, query and fragment, for messages."""
        return named(self._url)

    @property
    def result_format(self) -> Format | None:
        """The format of the result that is sent; None if no result is sent."""
        return self.format or ("json" if self.kind == "put" else None)

    @property
    def expires_at(self) -> float | None:
        """When a presigned URL expires, in seconds since 1970; None if the URL does not say."""
        return expires_at(self._url) if self.kind == "put" else None

    @property
    def signs_content_type(self) -> bool:
        """Whether the signature in a presigned URL covers Content-Type. Version 2 of S3's and GCS's
        signatures does, so that a Content-Type that Conserver adds would make it invalid.
        """
        query = {name.lower() for name, _ in parse_qsl(urlsplit(self._url).query)}
        return {"signature", "expires"} <= query

    def own_headers(self) -> dict[str, str]:
        """The headers that the caller wants, by names in lower case; for Azure also the header
        x-ms-blob-type, which Azure requires.
        """
        found = {name.lower(): one.get_secret_value() for name, one in self.headers.items()}
        query = {name.lower() for name, _ in parse_qsl(urlsplit(self._url).query)}
        if self.kind == "put" and {"sig", "sv"} <= query:
            found.setdefault("x-ms-blob-type", "BlockBlob")
        return found

    @property
    def _url(self) -> str:
        return self.url.get_secret_value()

    def dump(self) -> bytes:
        """The callback as JSON, with its secrets. Only Redis may get this."""
        return orjson.dumps(
            {
                **self.model_dump(exclude={"url", "headers"}, exclude_defaults=True),
                "url": self._url,
                "headers": {name: one.get_secret_value() for name, one in self.headers.items()},
            }
        )

    def hide(self, text: str) -> str:
        """`text` without the callback's secrets. S3, for example, quotes a refused signature."""
        for value in sorted(set(self.secrets()), key=len, reverse=True):
            if len(value) >= _HIDDEN_CHARS_MIN:
                text = text.replace(value, "***")
        return text

    def secrets(self) -> list[str]:
        """The callback's secrets: its query, the query's values, its login and its headers."""
        parts = urlsplit(self._url)
        found = [parts.query, *(value for _, value in parse_qsl(parts.query))]
        found += [part.partition("=")[2] for part in parts.query.split("&")]
        found += [text for text in (parts.username, parts.password) if text]
        return [*found, *(one.get_secret_value() for one in self.headers.values())]


def load(text: bytes) -> Callback:
    """Parses the result of `Callback.dump`. Raises ValueError."""
    return Callback.model_validate(orjson.loads(text))


def expires_at(url: str) -> float | None:
    """When a presigned URL expires, in seconds since 1970; None if the URL does not say."""
    query = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
    for maker in ("x-amz", "x-goog", "x-oss"):
        stamp, seconds = query.get(f"{maker}-date", ""), query.get(f"{maker}-expires", "")
        if _STAMP.fullmatch(stamp) and _SECONDS.fullmatch(seconds):
            try:
                signed = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                return (signed + timedelta(seconds=int(seconds))).timestamp()
            except (ValueError, OverflowError):
                return None
    if "sig" in query and "se" in query:
        return _moment(query["se"])
    if _SECONDS.fullmatch(query.get("expires", "")) and {"signature", "key-pair-id"} & query.keys():
        return float(query["expires"])
    return None


def _moment(text: str) -> float | None:
    """Seconds since 1970 of a time as Azure writes it: ISO 8601 in UTC, or only a date."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _check_url(url: str) -> None:
    """Raise ValueError if it is not an http or https URL. The message never quotes the URL."""
    if len(url) > URL_CHARS_MAX:
        raise ValueError(f"has over {URL_CHARS_MAX} characters")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
        if address_of(url) is None:
            (parts.hostname or "").encode("idna")
    except ValueError:  # UnicodeError is one.
        good = False
    if not good or re.search(r"[\x00-\x20\x7f]", url):
        raise ValueError("must be an http or https URL (it is not shown: it may hold a secret)")


def _check_header(name: str, value: str) -> None:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("this is no name of a header")
    if name.lower() in _OWN_HEADERS or name.lower().startswith("webhook-"):
        raise ValueError(f"the header {name} is set by Conserver itself")
    if len(value) > HEADER_CHARS_MAX or not _HEADER_VALUE.fullmatch(value):
        raise ValueError(f"the header {name} has a value that cannot be sent")


def address_of(url: str) -> Address | None:
    """The IP address in a URL; None if the URL has a host name."""
    try:
        return ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return None


def job_fields(callback: Callback) -> list[tuple[str, Any]]:
    """The fields of the job's hash in Redis for a callback. prelude.lua reads callback_on and
    callback_until_ms.
    """
    fields: list[tuple[str, Any]] = [
        ("callback", callback.dump()),
        ("callback_on", " ".join(sorted(set(callback.events)))),
    ]
    if (until_s := callback.expires_at) is not None:
        fields.append(("callback_until_ms", int(until_s * 1000)))
    return fields
