"""diet: makes vCons smaller: moves or removes bodies, analyses, attachments, system prompts.

    options:
      remove_dialog_body: true
      s3_bucket: recordings                   uploads bodies to S3; or
      post_media_to_url: https://media.example.com/   to a service that answers {"url": ...}
      remove_analysis: true
      remove_attachment_types: [image/jpeg, strolid_dealer]    media types, purposes or types
      remove_system_prompts: true             every member named system_prompt, at any depth

If a destination is configured, the link uploads each body and then replaces it by its `url` and
`content_hash`, the standard's form of external content. A body is replaced only after its upload
succeeded, so that none is lost. Without a destination, bodies are deleted.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import importlib
import mimetypes
from typing import Any
from urllib.parse import quote

import orjson
from pydantic import AnyHttpUrl, Field, SecretStr

from conserver.errors import Retry
from conserver.links import LinkContext
from conserver.outbound import endpoint, faults
from conserver.vcon.document import Vcon, decode_body, encode_body, media_type, numbered
from storage import network

# Decides which proxy is used if the option s3_endpoint_url is not set.
_AWS_URL = "https://s3.amazonaws.com"
_EMPTY: tuple[Any, ...] = (None, "", [], {})


class Options(endpoint.CallOptions):
    """What to remove, and the destination of bodies."""

    remove_dialog_body: bool = False
    post_media_to_url: AnyHttpUrl | None = None
    remove_analysis: bool = False
    remove_attachment_types: tuple[str, ...] = ()
    remove_system_prompts: bool = False
    s3_bucket: str = ""
    s3_path: str = ""
    s3_endpoint_url: str = ""
    aws_access_key_id: str = ""
    aws_secret_access_key: SecretStr = SecretStr("")
    aws_region: str = "us-east-1"
    presigned_url_expiration: int | None = Field(default=None, gt=0, le=604_800)


def prepare(options: Options) -> None:
    """Import the packages that the options need."""
    if options.s3_bucket:
        importlib.import_module("boto3")
        network.botocore_proxies(options.s3_endpoint_url or _AWS_URL)
    elif options.post_media_to_url:
        endpoint.prepare([str(options.post_media_to_url)], options.ca_file)


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Apply all configured removals. A second run changes nothing."""
    if options.remove_dialog_body:
        for index, dialog in numbered(vcon.dialogs):
            if dialog.get("body") not in _EMPTY:
                _move_body(vcon, index, options, context)
    if options.remove_analysis and "analysis" in vcon.view:
        del vcon.data["analysis"]
    unwanted = {name.lower() for name in options.remove_attachment_types}
    if unwanted:
        vcon.remove(
            "attachments",
            [index for index, item in numbered(vcon.attachments) if _kinds(item) & unwanted],
        )
    if options.remove_system_prompts:
        _remove_members(vcon.data, "system_prompt")
    return vcon


def _move_body(vcon: Vcon, index: int, options: Options, context: LinkContext) -> None:
    dialog = vcon.dialogs[index]
    elsewhere: dict[str, Any] = {}
    if options.s3_bucket or options.post_media_to_url:
        context.check_cancelled()
        body = decode_body(dialog)
        content = body if isinstance(body, bytes) else _as_bytes(body)
        digest = hashlib.sha512(content).digest()
        if options.s3_bucket:
            url = _to_s3(vcon.uuid, index, dialog, content, digest, options)
        else:
            url = _to_service(vcon.uuid, index, dialog, options, context)
        elsewhere = {"url": url, "content_hash": f"sha512-{encode_body(digest)}"}
    changed = vcon.data["dialog"][index]
    for name in ("body", "encoding"):
        changed.pop(name, None)
    changed.update(elsewhere)


def _as_bytes(body: Any) -> bytes:
    return body.encode("utf-8") if isinstance(body, str) else orjson.dumps(body)


def _to_service(
    uuid: str, index: int, dialog: dict[str, Any], options: Options, context: LinkContext
) -> str:
    """POST the encoded body in vcon-server's format. Returns the URL that the service answers."""
    body = {
        "content": dialog["body"],
        "vcon_uuid": uuid,
        "dialog_id": str(dialog.get("id") or index),
        "encoding": dialog.get("encoding"),
        "mediatype": media_type(dialog),
    }
    headers = {"content-type": "application/json"}
    place = str(options.post_media_to_url)
    answer = endpoint.post(place, orjson.dumps(body), headers, options, context)
    try:
        url = orjson.loads(answer.content)["url"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        url = None
    if not isinstance(url, str) or not url:
        raise faults.FailedAttemptError(
            f"the media service took a body and gave no url: {answer.content[:200]!r}"
        )
    return url


def _to_s3(
    uuid: str, index: int, dialog: dict[str, Any], content: bytes, digest: bytes, options: Options
) -> str:
    """Upload the content under a key derived from it, so that a repeated upload overwrites it."""
    exceptions = importlib.import_module("botocore.exceptions")
    kind = media_type(dialog) or "application/octet-stream"
    name = f"{uuid}/{index}_{digest.hex()[:16]}{mimetypes.guess_extension(kind) or '.bin'}"
    key = f"{options.s3_path.strip('/')}/{name}".lstrip("/")
    client = _s3(
        options.s3_endpoint_url,
        options.aws_region,
        options.aws_access_key_id,
        options.aws_secret_access_key.get_secret_value(),
        options.connect_timeout_s,
        options.read_timeout_s,
        options.attempts,
    )
    target = {"Bucket": options.s3_bucket, "Key": key}
    try:
        client.put_object(**target, Body=content, ContentType=kind)
        if options.presigned_url_expiration is not None:
            url: str = client.generate_presigned_url(
                "get_object", Params=target, ExpiresIn=options.presigned_url_expiration
            )
            return url
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        raise Retry(None, f"S3 did not take the body of dialog {index}: {error}") from None
    return f"{client.meta.endpoint_url}/{options.s3_bucket}/{quote(key)}"


@functools.lru_cache(maxsize=16)
def _s3(
    endpoint_url: str,
    region: str,
    key_id: str,
    secret: str,
    connect_timeout_s: float,
    read_timeout_s: float,
    attempts: int,
) -> Any:
    """The process's client for these options, created at the first upload, never before a fork."""
    boto3 = importlib.import_module("boto3")
    config = importlib.import_module("botocore.config").Config(
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        s3={"addressing_style": "path"},
        proxies=network.botocore_proxies(endpoint_url or _AWS_URL),
    )
    # An own session, because boto3's default session is not thread-safe.
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url or None,
        region_name=region,
        aws_access_key_id=key_id or None,
        aws_secret_access_key=secret or None,
        config=config,
    )
    atexit.register(client.close)
    return client


def _kinds(attachment: dict[str, Any]) -> set[str]:
    """All names by which an option can select an attachment, in lower case."""
    names = [attachment.get("purpose"), attachment.get("type"), attachment.get("mime_type")]
    kinds = {name.lower() for name in names if isinstance(name, str)}
    return kinds | {kind for kind in (media_type(attachment),) if kind}


def _remove_members(document: dict[str, Any], name: str) -> None:
    """Remove a member at every depth. Not recursive: vCons may nest deeper than Python's stack."""
    stack: list[Any] = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            value.pop(name, None)
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
