"""Settings of callbacks, which tell the ends of jobs, and of the secrets that sign them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from conserver.config.setting_types import Seconds, Switch
from conserver.config.settings.part import Part, setting


class Callbacks(Part):
    """The settings of callbacks."""

    callbacks: Switch = setting(
        "CONSERVER_CALLBACKS",
        True,
        "Whether jobs may have callbacks, and whether this host sends them.",
    )
    upload_timeout_s: Seconds = setting(
        "UPLOAD_TIMEOUT_SECONDS",
        600,
        "How long one try to deliver a job's result to its callback may take in all.",
    )
    callback_tries: Annotated[int, Field(ge=1, le=100)] = setting(
        "CONSERVER_CALLBACK_TRIES",
        3,
        "How often a job's end is sent to its callback before it is a dead letter.",
    )
    callback_backoff_s: Seconds = setting(
        "CONSERVER_CALLBACK_BACKOFF_S",
        5,
        "The wait before the second try; it doubles, with jitter, from there.",
    )
    callback_private_addresses: Switch = setting(
        "CONSERVER_CALLBACK_PRIVATE_ADDRESSES",
        False,
        "Whether callbacks may go to addresses of our own networks.",
    )
    webhook_secret: SecretStr = setting(
        "CONSERVER_WEBHOOK_SECRET",
        "",
        "The secret that signs webhooks: `whsec_` and base64; during a change two, with a space.",
    )
    webhook_secret_file: str = setting(
        "CONSERVER_WEBHOOK_SECRET_FILE",
        "",
        "A file of more secrets: each line has a name and a secret, for callbacks with that `key`.",
    )
