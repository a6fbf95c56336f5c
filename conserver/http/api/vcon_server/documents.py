"""vcon-server's routes /vcon and /vcons: store, read, delete, list and search documents."""

from __future__ import annotations

import asyncio
import uuid as uuidlib
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import Depends, Query, Request, Response
from redis.exceptions import RedisError

from conserver.config.settings import Settings
from conserver.errors import OperationError, Rejected
from conserver.http.api import bodies
from conserver.http.api.context import Context, context_of
from conserver.http.api.hiding import as_is
from conserver.http.api.problems import ProblemError
from conserver.http.api.vcon_server import access, route
from conserver.http.api.vcon_server.oddities import oddities
from conserver.http.api.vcon_server.route import invalid, refusal
from conserver.operations import documents, index, push
from conserver.operations.tokens import Token
from conserver.telemetry import log
from conserver.vcon.document import Vcon
from conserver.vcon.ids import usable_uuid
from conserver.vcon.legacy import to_legacy

router = route.router()

PAGE_MAX = 1000
WANTED_MAX = 1000
"""The most documents in an answer of GET /vcons. Their total size has the limit of one document."""

JSON = "application/json"
ODDITY_HEADER = "X-Conserver-Warning"


async def document_in(request: Request, context: Context) -> Vcon:
    """The document in the body, unchanged. Raises RequestValidationError (422), ProblemError."""
    raw = await bodies.whole(request, context.settings.max_document_bytes)
    try:
        if len(raw) <= bodies.PARSE_INLINE_BYTES:
            return Vcon.parse(raw)
        return await asyncio.to_thread(Vcon.parse, raw)
    except Rejected as refused:
        place = ("body", "uuid") if "uuid" in refused.reason else ("body",)
        raise invalid(place, "value_error", refused.reason) from None


def store(context: Context, found: Vcon, lists: list[str]) -> None:
    """Store a document, push it, index it. Blocks."""
    settings, uuid = context.settings, found.uuid
    with context.client() as client:
        if lists:
            push.push(client, lists, uuid, found.base, settings=settings)
        else:
            documents.store(client, uuid, found.base, expiry_s=settings.orphan_expiry_s)
        try:
            index.add(client, settings, found)
        except RedisError as error:  # The document is stored and queued; only the index lacks it.
            log.get_logger().warning("vcon_not_indexed", vcon=uuid, error=str(error))


@router.post("/vcon", status_code=201)
async def post(
    request: Request,
    token: Annotated[Token, Depends(access.allows("submit"))],
    ingress_lists: Annotated[list[str] | None, Query()] = None,
) -> Response:
    """Stores the document and pushes it onto the lists. Answers with the body as it was sent."""
    context = context_of(request)
    names = list(dict.fromkeys(ingress_lists or ()))
    for name in names:
        access.ingress_list(context, token, name, "ingress_lists")
    found = await document_in(request, context)
    await asyncio.to_thread(store, context, found, names)
    as_is(request)
    response = Response(found.base, 201, media_type=JSON)
    for told in oddities(found):
        response.headers.append(ODDITY_HEADER, told)
    return response


@router.get("/vcon")
def newest(
    request: Request,
    token: Annotated[Token, Depends(access.allows("read"))],
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 50,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[str]:
    """uuids by `created_at`, the newest first."""
    context = context_of(request)
    wanted = index.Page(page, size, _seconds(since), _seconds(until))
    with context.client() as client:
        return index.newest(client, context.settings, wanted)


def _seconds(moment: datetime | None) -> float | None:
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@router.get("/vcon/{vcon_uuid}")
def get(
    request: Request, vcon_uuid: str, token: Annotated[Token, Depends(access.allows("read"))]
) -> Response:
    """The document, from Redis or the first storage that has it. Not found: 404, or 502 if a
    storage could not be asked.
    """
    context = context_of(request)
    _check_usable(vcon_uuid)
    with context.client() as client:
        text = _read(context, client, vcon_uuid)
        if text is None:
            _check_is_uuid(vcon_uuid)
            index.remove(client, context.settings, vcon_uuid)
            raise refusal(404, "vCon not found")
    as_is(request)
    return Response(_spelt(context.settings, text), media_type=JSON)


@router.get("/vcons")
def get_many(
    request: Request,
    token: Annotated[Token, Depends(access.allows("read"))],
    vcon_uuids: Annotated[list[str], Query(max_length=WANTED_MAX)],
) -> Response:
    """The documents in the order of the request, with `null` for missing ones."""
    context = context_of(request)
    room, parts = context.settings.max_document_bytes, []
    with context.client() as client:
        for uuid in vcon_uuids:
            text = _read(context, client, uuid) if usable_uuid(uuid) else None
            parts.append(b"null" if text is None else _spelt(context.settings, text))
            room -= len(parts[-1])
            if room < 0:
                raise refusal(413, "these are too much for one answer: ask for fewer")
    as_is(request)
    return Response(b"[%b]" % b",".join(parts), media_type=JSON)


@router.get("/vcons/search")
def search(
    request: Request,
    token: Annotated[Token, Depends(access.allows("read"))],
    tel: str = "",
    mailto: str = "",
    name: str = "",
) -> list[str]:
    """uuids of vCons that match every given parameter."""
    context = context_of(request)
    terms = {"tel": tel, "mailto": mailto, "name": name}
    wanted = {term: value for term, value in terms.items() if value}
    if not wanted:
        raise refusal(400, "At least one search parameter must be provided")
    with context.client() as client:
        return index.find(client, wanted)


@router.delete("/vcon/{vcon_uuid}", status_code=204)
def delete(
    request: Request, vcon_uuid: str, token: Annotated[Token, Depends(access.allows("admin"))]
) -> Response:
    """204, also if no place had the document; 502 names storages that may still have it."""
    context = context_of(request)
    _check_usable(vcon_uuid)
    places: list[str] = []
    failed: dict[str, str] = {}
    with context.client() as client:
        for uuid in _spellings(vcon_uuid):
            deleted = documents.delete(client, context.storages, uuid, actor=token.name)
            places += deleted.places
            failed |= deleted.failed
            index.remove(client, context.settings, uuid)
    if failed:
        raise refusal(
            502, "it may still be in these storages, which failed: " + ", ".join(sorted(failed))
        )
    if not places:
        _check_is_uuid(vcon_uuid)
    return Response(status_code=204)


@router.api_route("/index_vcons", methods=["GET", "POST"])
def index_all(request: Request, token: Annotated[Token, Depends(access.allows("operate"))]) -> int:
    """Indexes every document in Redis; answers with their number. 409: another request does so."""
    context = context_of(request)
    with context.client() as client:
        try:
            return index.rebuild(client, context.settings)
        except OperationError as error:
            raise refusal(409, str(error), {"Retry-After": "10"}) from None


def _read(context: Context, client: Any, uuid: str) -> bytes | None:
    """The document with this uuid, as the client spelt it or in canonical spelling; None if no
    place has it.

    Raises:
        ProblemError: 502: it was not found, and a storage could not be asked.
    """
    silent: set[str] = set()
    for one in _spellings(uuid):
        found = documents.get(client, context.storages, one)
        if found.in_redis is not None and found.in_redis.strange:
            raise OperationError(f"vcon:{one} is a {found.in_redis.kind} in Redis", "conflict")
        if found.text is not None:
            return found.text
        silent |= found.silent.keys()
    if silent:
        text = "these storages could not be asked: " + ", ".join(sorted(silent))
        raise ProblemError(502, text, "storage-away")
    return None


def _spellings(uuid: str) -> list[str]:
    """The uuid as it was sent, and as vcon-server would have stored it."""
    try:
        canonical = str(uuidlib.UUID(uuid))
    except ValueError:
        canonical = uuid
    return list(dict.fromkeys([uuid, canonical]))


def _check_usable(uuid: str) -> None:
    if not usable_uuid(uuid):
        _check_is_uuid("")


def _check_is_uuid(uuid: str) -> None:
    """Raise 422 for an id that is no UUID, as vcon-server does, although /v1 allows other ids."""
    try:
        uuidlib.UUID(uuid)
    except ValueError:
        place = ("path", "vcon_uuid")
        raise invalid(place, "uuid_parsing", "Input should be a valid UUID") from None


def _spelt(settings: Settings, text: bytes) -> bytes:
    """The document for clients: converted to EGRESS_FORMAT_VERSION. Its bytes without that setting,
    and if it is nested too deeply to be converted.
    """
    if not settings.egress_format_version:
        return text
    try:
        legacy = to_legacy(orjson.loads(text), settings.egress_format_version)
    except RecursionError:
        return text
    try:
        return orjson.dumps(legacy)
    except TypeError:
        return text
