"""diet: makes vCons lighter: moves or removes bodies, analyses, attachments, system prompts.

    options:
      remove_dialog_body: true
      s3_bucket: recordings                   bodies go there; or
      post_media_to_url: https://media.example.com/   to a service that answers {"url": ...}
      remove_analysis: true
      remove_attachment_types: [image/jpeg, strolid_dealer]    media types, purposes or types
      remove_system_prompts: true             every member named system_prompt, at any depth

With a place to go to, a dialog gets the `url` and the `content_hash` of what was its body, as the
standard has it for content kept elsewhere, and only once the place has taken it: a body is never
lost to a failed upload. With no place named, the body is removed for good.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import mimetypes
from typing import Any
from urllib.parse import quote

import orjson
from pydantic import AnyHttpUrl, Field, SecretStr

from conserver.errors import Rejected, Retry
from conserver.links import LinkContext
from conserver.outbound import endpoint
from conserver.vcon.document import Vcon, decode_body, encode_body, media_type, numbered

_EMPTY: tuple[Any, ...] = (None, "", [], {})


class Options(endpoint.CallOptions):
    """What to take off, and where bodies go."""

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
    """Import what the options need."""
    if options.s3_bucket:
        importlib.import_module("boto3")
    elif options.post_media_to_url:
        endpoint.prepare()


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Apply every part of the diet; a second run finds nothing left to do."""
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
    """Hand the body as it is written to the service, in vcon-server's form; its URL there."""
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
        raise Rejected(f"the media service took a body and gave no url: {answer.content[:200]!r}")
    return url


def _to_s3(
    uuid: str, index: int, dialog: dict[str, Any], content: bytes, digest: bytes, options: Options
) -> str:
    """Store the content under a key made of it, so that a second run stores the same object."""
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
    """The process's client for these; made at the first upload, so never before a fork."""
    boto3 = importlib.import_module("boto3")
    config = importlib.import_module("botocore.config").Config(
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        s3={"addressing_style": "path"},
    )
    # A session of its own: the default one is not made for several threads.
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url or None,
        region_name=region,
        aws_access_key_id=key_id or None,
        aws_secret_access_key=secret or None,
        config=config,
    )


def _kinds(attachment: dict[str, Any]) -> set[str]:
    """All that an option can call an attachment by, in lower case."""
    names = [attachment.get("purpose"), attachment.get("type"), attachment.get("mime_type")]
    kinds = {name.lower() for name in names if isinstance(name, str)}
    return kinds | {kind for kind in (media_type(attachment),) if kind}


def _remove_members(document: dict[str, Any], name: str) -> None:
    """Remove a member wherever it is; with a stack of our own: some nest deeper than Python."""
    stack: list[Any] = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            value.pop(name, None)
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
