"""Settings of the HTTP API: its address, its tokens, and their limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from conserver.config.setting_types import Bytes, RootPath, Switch
from conserver.config.settings.part import Part, setting


class Api(Part):
    """The settings of the HTTP API."""

    api_port: Annotated[int, Field(ge=0, le=65535)] = setting(
        "CONSERVER_API_PORT", 0, "The port on which `conserver run` serves the HTTP API; 0: none."
    )
    api_host: str = setting(
        "CONSERVER_API_HOST", "127.0.0.1", "The address that the HTTP API listens on."
    )
    api_tokens_file: str = setting(
        "CONSERVER_API_TOKENS_FILE",
        "",
        "The file of API tokens (`conserver token add`); without a token only loopback is served.",
    )
    api_token: SecretStr = setting(
        "CONSERVER_API_TOKEN", "", "One more token, with the role admin (as vcon-server has it)."
    )
    api_token_file: str = setting(
        "CONSERVER_API_TOKEN_FILE",
        "",
        "More tokens with the role admin, one per line as plain text (as vcon-server has it).",
    )
    api_open: Switch = setting(
        "CONSERVER_API_OPEN",
        False,
        "Serve all callers on all addresses without a token: for a proxy that authenticates them.",
    )
    api_header_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = setting(
        "CONSERVER_HEADER_NAME",
        "x-conserver-api-token",
        "The header that may carry a token, beside Authorization: Bearer.",
    )
    api_root_path: RootPath = setting(
        "API_ROOT_PATH", "/api", "The prefix under which a proxy may serve the API."
    )
    api_cors_origins: str = setting(
        "CONSERVER_API_CORS_ORIGINS",
        "",
        "Origins whose pages may call the API, separated by commas; none by default.",
    )
    api_rate_per_minute: Annotated[int, Field(ge=0)] = setting(
        "CONSERVER_API_RATE_PER_MINUTE",
        0,
        "Requests of a token per minute, in each process of the API; 0 is no limit.",
    )
    api_jobs_at_once: Annotated[int, Field(ge=0)] = setting(
        "CONSERVER_API_JOBS_AT_ONCE",
        0,
        "How many jobs of a token may be unfinished, if the token has no limit of its own; 0 is no"
        " limit.",
    )
    api_jobs_per_minute: Annotated[int, Field(ge=0)] = setting(
        "CONSERVER_API_JOBS_PER_MINUTE",
        0,
        "How many jobs a token may submit in a minute, over all replicas, if the token has no limit"
        " of its own; 0 is no limit.",
    )
    api_bytes_per_day: Bytes = setting(
        "CONSERVER_API_BYTES_PER_DAY",
        0,
        "How much a token may send on a day (UTC), such as 10G, if the token has no limit of its"
        " own; 0 is no limit.",
    )
    api_any_list: Switch = setting(
        "CONSERVER_API_ANY_LIST",
        False,
        "Whether vcon-server's routes take lists that are not in the configuration.",
    )
    api_public_stats: Switch = setting(
        "CONSERVER_API_PUBLIC_STATS",
        True,
        "Whether /stats/queue tells the depth of configured lists without a token.",
    )
    api_config_writes: Switch = setting(
        "CONSERVER_API_CONFIG_WRITES",
        False,
        "Whether POST /config may replace the configuration file: its modules are code that runs.",
    )
