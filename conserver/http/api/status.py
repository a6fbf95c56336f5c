"""/v1/status, /v1/hosts, /v1/workers, /v1/items, /v1/config and /v1/audit: the system's state."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from conserver.http.api import lists, submitting
from conserver.http.api.auth import check_unrestricted, requires
from conserver.http.api.context import context_of
from conserver.http.api.lists import ListView
from conserver.http.api.shapes import iso, iso_or_none, with_iso
from conserver.http.api.visible import visible
from conserver.operations import attention, audit, items, overview
from conserver.operations import hosts as operations
from conserver.operations import lists as list_operations
from conserver.operations.hosts import Host, Throughput
from conserver.operations.tokens import Token
from conserver.telemetry.redact import redact_fields

router = APIRouter(prefix="/v1", tags=["status"])


class HostView(BaseModel):
    """One host: its supervisor and its workers, as of the last heartbeat."""

    id: str
    name: str
    version: str
    pid: int
    state: str
    started_at: str
    beat_age_s: float
    lists: list[str]
    storages: list[str]
    workers: list[dict[str, Any]]
    transcribers: list[dict[str, Any]]
    page_readers: list[dict[str, Any]]
    beats: bool = Field(description="Whether its last heartbeat is younger than its lease.")
    consumes: bool = Field(description="Whether it takes items.")


class Breaker(BaseModel):
    """How many of the workers that write to a storage have stopped because it fails."""

    storage: str
    open: int
    workers: int
    since: str | None = Field(description="Since when the storage fails; null if it does not.")
    reason: str = Field(description="The storage's latest error; empty if it does not fail.")


class Finding(BaseModel):
    """One problem that was found."""

    severity: str = Field(description="critical or warning.")
    subject: str = Field(description="What it is about, such as `Storage pg`.")
    text: str = Field(description="The problem.")
    advice: str = Field(description="What to do.")
    list: str = Field(description="The list that has the problem; empty for none.")


class Status(BaseModel):
    """The state of all lists and hosts, and their problems."""

    at: str
    findings: list[Finding] = Field(description="Present problems, the worst first.")
    lists: list[ListView]
    hosts: list[HostView]
    breakers: list[Breaker]
    in_flight: int
    done: int = Field(description="Items that the present workers have done.")
    rate_per_s: float | None = Field(description="Over the last minute; null: not known.")
    drained_in_s: int | None = Field(
        description="Estimated seconds until all lists are empty, except paused and unserved ones."
    )


class Place(BaseModel):
    """The place of one copy of an item: queued, returned, suspects, parked, running or dead."""

    list: str
    where: str


class Item(BaseModel):
    """The places of a vCon in the queues. `places` is empty if it is in none."""

    uuid: str
    places: list[Place]


class Workers(BaseModel):
    """How busy the running hosts are."""

    queue_size: int = Field(description="Items that wait on the lists, parked ones included.")
    active_tasks: int = Field(description="Items that workers hold.")
    num_workers: int = Field(description="Workers of all hosts.")
    page_readers: int = Field(description="Processes that read pages of documents.")
    workers: list[dict[str, Any]] = Field(description="Each worker with its host and its items.")


class ConfigView(BaseModel):
    """The configuration without its secrets, and its entries that have no effect."""

    links: dict[str, Any]
    storages: dict[str, Any]
    chains: dict[str, Any]
    warnings: list[str]


class AuditView(BaseModel):
    """One change, and who made it."""

    at: str
    actor: str
    action: str
    target: dict[str, Any]
    count: int


def _host(host: Host) -> HostView:
    return HostView(
        id=host.id,
        name=host.name,
        version=host.version,
        pid=host.pid,
        state=host.state,
        started_at=iso(host.started_at),
        beat_age_s=round(host.beat_age_s, 1),
        lists=host.lists,
        storages=host.storages,
        workers=[with_iso(one) for one in host.workers],
        transcribers=[with_iso(one) for one in host.transcribers],
        page_readers=[with_iso(one) for one in host.page_readers],
        beats=host.beats,
        consumes=host.consumes,
    )


def _breaker(one: operations.Breaker) -> Breaker:
    return Breaker(
        storage=one.storage,
        open=one.open,
        workers=one.workers,
        since=iso_or_none(one.since),
        reason=one.reason,
    )


def _finding(one: attention.Finding) -> Finding:
    return Finding(
        severity=one.severity,
        subject=one.subject,
        text=one.text,
        advice=one.advice,
        list=one.list,
    )


@router.get("/status", summary="Lists, hosts and workers")
def status(request: Request, token: Annotated[Token, Depends(requires("read"))]) -> Status:
    """Shows what waits, what runs and what is dead on all lists, and present problems."""
    context = context_of(request)
    with context.client() as client:
        everything = overview.overview(client, list(context.config.ingress), Throughput())
    seen = [state for state in everything.lists if token.may_use(state.name)]
    hosts = visible(everything.hosts, token, context.config)
    found = replace(everything, lists=seen, hosts=hosts)
    return Status(
        at=iso(found.at),
        findings=[_finding(one) for one in attention.attention(found, context.settings.parked_cap)],
        lists=[lists.view(state) for state in found.lists],
        hosts=[_host(host) for host in found.hosts],
        breakers=[_breaker(one) for one in found.breakers],
        in_flight=found.in_flight,
        done=found.done,
        rate_per_s=found.rate_per_s,
        drained_in_s=found.drained_in_s,
    )


@router.get("/hosts", summary="Hosts and their workers")
def hosts(request: Request, token: Annotated[Token, Depends(requires("read"))]) -> list[HostView]:
    """Lists the hosts, sorted by name."""
    context = context_of(request)
    with context.client() as client:
        found = operations.read(client)
    return [_host(host) for host in visible(found, token, context.config)]


@router.get("/workers", summary="How busy the workers are")
def workers(request: Request, token: Annotated[Token, Depends(requires("read"))]) -> Workers:
    """Counts the items that wait and run on all running hosts, and lists each worker's items."""
    context = context_of(request)
    with context.client() as client:
        found = overview.overview(client, list(context.config.ingress), Throughput())
    living = [host for host in visible(found.hosts, token, context.config) if host.beats]
    waiting = [
        count
        for state in found.lists
        if token.may_use(state.name)
        for count in (state.queued, state.returned, state.suspects, state.parked)
        if count is not None  # None: the key has the wrong type.
    ]
    texts = [{"host": host.name, **with_iso(worker)} for host in living for worker in host.workers]
    return Workers(
        queue_size=sum(waiting),
        active_tasks=found.in_flight,
        num_workers=len(texts),
        page_readers=sum(len(host.page_readers) for host in living),
        workers=texts,
    )


@router.get("/items/{uuid}", summary="Where a vCon is in the queues")
def item(request: Request, uuid: str, token: Annotated[Token, Depends(requires("read"))]) -> Item:
    """Reads whole lists, so it is for people, not for polling. To poll, use the vCon's job."""
    context = context_of(request)
    submitting.check_uuid(uuid)
    with context.client() as client:
        names = list_operations.names(client, context.config.ingress)
        found = items.find(client, [name for name in names if token.may_use(name)], [uuid])
    places = [Place(list=one.list, where=one.where) for one in found if token.may_use(one.list)]
    return Item(uuid=uuid, places=places)


@router.get("/config", summary="The configuration, without its secrets")
def config(request: Request, _: Annotated[Token, Depends(requires("read"))]) -> ConfigView:
    """Shows the configuration that this API process has read."""
    found = context_of(request).config
    shown: Any = redact_fields(found.model_dump(mode="json"))
    return ConfigView(**shown, warnings=[str(one) for one in found.warnings])


@router.get("/audit", summary="Who changed what, newest first")
def show_audit(
    request: Request,
    token: Annotated[Token, Depends(requires("read"))],
    limit: Annotated[int, Query(ge=1, le=audit.KEEP)] = 100,
) -> list[AuditView]:
    """Shows the latest changes, of the 1000 that are kept."""
    check_unrestricted(token, "does not see the audit, which names all of them")
    with context_of(request).client() as client:
        found = audit.recent(client, limit)
    return [
        AuditView(
            at=iso(one.at),
            actor=one.actor,
            action=one.action,
            target=dict(one.target),
            count=one.count,
        )
        for one in found
    ]
