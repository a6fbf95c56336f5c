"""The options of storage.elasticsearch: which cluster and index, and how to log in."""

from __future__ import annotations

import base64
import re
from typing import Any, Literal

from pydantic import AnyHttpUrl, Field, SecretStr, field_validator, model_validator

from storage.contract import StorageOptions


class Options(StorageOptions):
    """Which cluster and index, and how to log in."""

    url: str | list[str] | None = Field(
        default=None, description="URL of the server, or of several nodes of one cluster."
    )
    cloud_id: str | None = Field(default=None, description="Elastic Cloud's id, instead of a URL.")
    api_key: SecretStr | None = Field(
        default=None, description="API key, in the encoded form that Elasticsearch shows."
    )
    username: str | None = Field(default=None, description="User, where there is no API key.")
    password: SecretStr | None = Field(default=None, description="The user's password.")
    bearer_token: SecretStr | None = Field(
        default=None, description="Token of a service account or of OAuth, instead of the others."
    )
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Further headers of every request, as a gateway may ask."
    )
    ca_certs: str | None = Field(
        default=None,
        description="File or folder with the certificates to trust, instead of the environment's.",
    )
    ca_fingerprint: str | None = Field(
        default=None,
        description="SHA-256 fingerprint of a certificate to trust, of the server or of its CA.",
    )
    client_cert: str | None = Field(
        default=None, description="File with the certificate that we show the server."
    )
    client_key: str | None = Field(
        default=None, description="File with its key, if it is not in the same file."
    )
    server_mode: Literal["stack", "serverless"] = Field(
        default="stack", description="`serverless` for a project of Elastic Cloud Serverless."
    )
    sniff_on_start: bool = Field(
        default=False, description="Ask the first node for all others, when the storage is opened."
    )
    sniff_before_requests: bool = Field(
        default=False, description="Ask for them again from time to time."
    )
    sniff_on_node_failure: bool = Field(
        default=False, description="Ask for them again whenever a node has failed."
    )
    sniff_timeout: float = Field(
        default=1.0, gt=0, description="Seconds that one such question may take."
    )
    min_delay_between_sniffing: float = Field(
        default=60.0, ge=0, description="Seconds between such questions, at least."
    )
    index: str = Field(default="vcons", min_length=1, description="Name of the index, or alias.")
    index_prefix: str = Field(default="", description="Put before the index's name.")
    index_settings: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings for the index when it is made, such as number_of_shards.",
    )
    max_body_bytes: int = Field(
        default=65_536,
        ge=0,
        description="Longer inline bodies of dialogs and attachments are left out.",
    )
    max_vcon_bytes: int = Field(
        default=5_000_000,
        ge=0,
        description="A vCon that is larger even so is indexed, but not kept.",
    )
    http_compress: bool | None = Field(
        default=None,
        description="Compress requests: for slow networks, at the cost of CPU. By default only on"
        " the way to Elastic Cloud.",
    )

    @property
    def urls(self) -> list[str]:
        """The nodes' URLs: the option `url` as a list."""
        return [self.url] if isinstance(self.url, str) else list(self.url or ())

    @property
    def sniffs(self) -> bool:
        """Whether the client asks the cluster for further nodes."""
        return self.sniff_on_start or self.sniff_before_requests or self.sniff_on_node_failure

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str | list[str] | None) -> str | list[str] | None:
        for url in [value] if isinstance(value, str) else value or ():
            AnyHttpUrl(url)
        return value

    @field_validator("cloud_id")
    @classmethod
    def _is_cloud_id(cls, value: str | None) -> str | None:
        if value is not None:
            cloud_url(value)
        return value

    @field_validator("ca_fingerprint")
    @classmethod
    def _is_fingerprint(cls, value: str | None) -> str | None:
        if value is not None and not _is_sha256(value):
            raise ValueError(
                "not a SHA-256 fingerprint: 64 hexadecimal digits, perhaps with colons"
            )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Options:
        if bool(self.url) == bool(self.cloud_id):
            raise ValueError("either url or cloud_id is needed, and not both")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        logins = [self.api_key, self.username, self.bearer_token]
        if sum(login is not None for login in logins) > 1:
            raise ValueError("only one of api_key, username and bearer_token can be used")
        if self.cloud_id and self.sniffs:
            raise ValueError("Elastic Cloud has nothing to sniff for: its URL is that of a proxy")
        if self.client_key and not self.client_cert:
            raise ValueError("client_key needs client_cert")
        return self


def cloud_url(cloud_id: str) -> str:
    """The URL in an id of Elastic Cloud: `NAME:` and base64 of `HOST$CLUSTER$KIBANA`.

    It is used to check the option and to find the proxy; the client reads the id itself. Raises
    ValueError if `cloud_id` is not such an id.
    """
    try:
        text = base64.b64decode(cloud_id.rpartition(":")[2], validate=True).decode()
    except ValueError as error:  # binascii.Error and UnicodeDecodeError are ValueErrors.
        raise ValueError(f"not an id of Elastic Cloud: {error}") from None
    host, _, rest = text.partition("$")
    cluster = rest.partition("$")[0]
    if not host or not cluster:
        raise ValueError("not an id of Elastic Cloud: it names no host")
    return f"https://{cluster}.{host}"


def _is_sha256(text: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{2}(:?[0-9a-fA-F]{2}){31}", text) is not None
