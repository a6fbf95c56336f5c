"""Stand-ins for smaller modules of vcon-server: filters, queue, usage reports, older vCons, OpenAI.

The functions have the names, parameters and results of vcon-server's, but none of its code.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import random
from datetime import UTC, datetime
from typing import Any

from conserver.plugins.compat import old_redis
from conserver.plugins.compat.old_vcon import Vcon
from conserver.vcon.document import is_tags, numbered, tag_texts
from conserver.vcon.legacy import to_legacy
from storage import reading

_log = logging.getLogger(__name__)
_TIMEOUT_S = 120.0
_AZURE_VERSION = "2024-10-21"
# How names of models begin -> vendor.
_VENDORS = {
    "claude": "anthropic",
    "gpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "chatgpt": "openai",
    "gemini": "google",
    "mistral": "mistral",
    "mixtral": "mistral",
    "llama": "meta",
    "meta-llama": "meta",
    "command": "cohere",
}
_PREFIXES = {"vertex_ai": "google"} | {
    name: name
    for name in ("openai", "azure", "anthropic", "google", "mistral", "meta", "cohere", "groq",
                 "bedrock")
}  # fmt: skip


# lib.links.filters


def is_included(options: dict[str, Any] | None, _vcon: Vcon) -> bool:
    """Whether a vCon passes the option `only_if` (section, type or purpose, includes)."""
    rule = (options or {}).get("only_if")
    if not rule:
        return True
    target = rule.get("purpose") or rule.get("type")
    for _, part in numbered(getattr(_vcon, rule["section"]) or []):
        if target not in (part.get("purpose"), part.get("type")):
            continue
        if is_tags(part):
            found: Any = tag_texts(part) or []
        else:
            body = part.get("body")
            found = body if isinstance(body, str) else json.dumps(body)
        if rule["includes"] in found:
            return True
    return False


def randomly_execute_with_sampling(options: dict[str, Any]) -> bool:
    """True with the probability `sampling_rate`, 0 to 1; always without that option."""
    rate = options.get("sampling_rate")
    return not rate or random.random() < rate


# lib.queue and dlq_utils


def get_ingress_list_dlq_name(ingress_list: str) -> str:
    """The list of dead letters of an ingress list."""
    return f"DLQ:{ingress_list}"


class VconQueue:
    """Pushes and pops uuids. Pushes of an open document's uuid are effects of its item."""

    def __init__(self, client: Any = None) -> None:
        self._client = old_redis.redis if client is None else client

    def enqueue(self, list_name: str, vcon_id: str) -> Any:
        """RPUSH."""
        return self._client.rpush(list_name, vcon_id)

    def enqueue_front(self, list_name: str, vcon_id: str) -> Any:
        """LPUSH."""
        return self._client.lpush(list_name, vcon_id)

    def dequeue(self, list_names: list[str], timeout: int = 15) -> Any:
        """BLPOP; `timeout` in seconds. (list, uuid), or None."""
        return self._client.blpop(list_names, timeout=timeout)

    def enqueue_dlq(self, ingress_list: str, vcon_id: str) -> Any:
        """RPUSH on the list of dead letters."""
        return self._client.rpush(get_ingress_list_dlq_name(ingress_list), vcon_id)

    def queue_length(self, list_name: str) -> Any:
        """LLEN."""
        return self._client.llen(list_name)

    def set_vcon_ttl(self, vcon_id: str, seconds: int) -> bool:
        """EXPIRE of the document."""
        return bool(self._client.expire(f"vcon:{vcon_id}", seconds))


# lib.dialog_body


def decode_inline_dialog_body(dialog: dict[str, Any]) -> bytes:
    """The bytes of a dialog's body. Raises ValueError, or KeyError without a body."""
    body, encoding = dialog["body"], dialog.get("encoding")
    if not isinstance(body, str) or encoding not in ("base64url", "base64", None):
        raise ValueError(f"a body with encoding {encoding!r} holds no bytes")
    return reading.decode_base64url(body)


# lib.vcon_egress_compat


def to_configured_legacy(vcon_dict: dict[str, Any]) -> dict[str, Any]:
    """`to_legacy`, if the environment variable EGRESS_FORMAT_VERSION names a version."""
    version = os.environ.get("EGRESS_FORMAT_VERSION")
    return to_legacy(vcon_dict, version) if version else vcon_dict


# lib.ai_usage


def send_ai_usage_data_for_tracking(
    vcon_uuid: str,
    input_units: int,
    output_units: int,
    unit_type: str,
    type: str,  # noqa: A002 - its name.
    send_ai_usage_data_to_url: str,
    ai_usage_api_token: str,
    model: str,
    sub_type: str | None = None,
) -> None:
    """POST a record of used tokens, if there is a URL. A failure is logged."""
    if not send_ai_usage_data_to_url:
        return
    httpx = importlib.import_module("httpx")
    record = {
        "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "record_id": vcon_uuid,
        "type": type,
        "sub_type": sub_type,
        "unit_type": unit_type,
        "input_units": input_units,
        "output_units": output_units,
        "ai_model": model,
    }
    headers = {"Authorization": f"Bearer {ai_usage_api_token}"}
    try:
        answer = httpx.post(send_ai_usage_data_to_url, json=record, headers=headers, timeout=30)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        _log.info("usage of %s was not reported: %s", model, error)


# lib.openai_client


def get_openai_client(opts: dict[str, Any] | None = None) -> Any:
    """A client of OpenAI, Azure or a LiteLLM proxy, whichever the options name."""
    return _client(opts or {}, "")


def get_async_openai_client(opts: dict[str, Any] | None = None) -> Any:
    """The same for asyncio."""
    return _client(opts or {}, "Async")


def get_vendor_from_opts(opts: dict[str, Any] | None = None) -> str:
    """The vendor of the model that the options name, such as "openai" or "azure"."""
    options = opts or {}
    if _text(options, "LITELLM_PROXY_URL") and _text(options, "LITELLM_MASTER_KEY"):
        prefix, _, name = str(options.get("model") or "").lower().rpartition("/")
        if vendor := _PREFIXES.get(prefix.partition("/")[0]):
            return vendor
        return next((v for start, v in _VENDORS.items() if name.startswith(start)), "litellm")
    azure = _text(options, "AZURE_OPENAI_ENDPOINT") and _text(options, "AZURE_OPENAI_API_KEY")
    return "azure" if azure else "openai"


def _client(options: dict[str, Any], prefix: str) -> Any:
    openai = importlib.import_module("openai")
    common: dict[str, Any] = {"timeout": _TIMEOUT_S, "max_retries": 0}
    account = {
        "organization": options.get("organization") or options.get("organization_key") or None,
        "project": options.get("project") or options.get("project_key") or None,
    }
    url, key = _text(options, "LITELLM_PROXY_URL"), _text(options, "LITELLM_MASTER_KEY")
    if url and key:
        url = url.rstrip("/") + ("/v1" if prefix else "")
        return getattr(openai, f"{prefix}OpenAI")(api_key=key, base_url=url, **account, **common)
    url, key = _text(options, "AZURE_OPENAI_ENDPOINT"), _text(options, "AZURE_OPENAI_API_KEY")
    if url and key:
        version = options.get("AZURE_OPENAI_API_VERSION") or _AZURE_VERSION
        made = getattr(openai, f"{prefix}AzureOpenAI")
        return made(api_key=key, azure_endpoint=url, api_version=version, **common)
    for name in ("OPENAI_API_KEY", "openai_api_key", "api_key"):
        if key := _text(options, name):
            return getattr(openai, f"{prefix}OpenAI")(api_key=key, **account, **common)
    raise ValueError(
        "the options need OPENAI_API_KEY, AZURE_OPENAI_ENDPOINT with AZURE_OPENAI_API_KEY, or "
        "LITELLM_PROXY_URL with LITELLM_MASTER_KEY"
    )


def _text(options: dict[str, Any], name: str) -> str:
    return str(options.get(name) or "").strip()
