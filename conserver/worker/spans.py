"""The trace spans of a worker. docs/tracing.md shows a trace.

    claim                one per claim that got items; linked to each of them
    process <list>       one per attempt of an item, from its claim until it has left the worker
      link <name>        each link that ran
      write <storage>    each storage's answer for the item; also `look up`
    write <storage>      a call for several items, linked to each of them
    write, settle, park, dead_letter    one per call of a script, linked to the items in it

All attempts of an item are in one trace. If the item's job has a traceparent, this is the trace of
the producer; otherwise the trace's id is made from the item's token. The span of each attempt is
linked to the span of the attempt before it, and to the span that vcon-server's context list names.

If traces are off, these functions make no spans. An item that is not sampled has one span, which is
never sent. This span gives the item's log lines their ids, and tells the servers that the item's
links call that the trace is not sampled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from conserver.plugins.loader import LoadedLink
from conserver.queue import keys
from conserver.queue.retrying_connection import RetryingConnection
from conserver.queue.script import Call
from conserver.telemetry.traces import TRACES
from conserver.vcon.ids import usable_uuid
from conserver.worker.item import ChainOutcome, Item, OutcomeKind
from storage.contract import Outcome, Rejected, Stored

if TYPE_CHECKING:
    from conserver.telemetry.otel import Otel, Span, SpanContext

_SYSTEM = {"messaging.system": "redis"}
_FAILURES = frozenset({OutcomeKind.RETRY, OutcomeKind.FAILED, OutcomeKind.REJECTED})


# ---- a claim, and the attempts that begin with it ------------------------------------------------


def claimed(
    items: Sequence[Item], redis: RetryingConnection, consumer: str, expiry_s: int, began_ns: int
) -> None:
    """Open the span of each claimed item, and make the span of the claim.

    Args:
        expiry_s: how long context lists live; 0 if they are not used.
        began_ns: when the claim began, by time.time_ns().
    """
    otel = TRACES.otel
    if otel is None or not items:
        return
    named = _read_contexts(otel, items, redis, expiry_s)
    for item, (parent, producers) in zip(items, named, strict=True):
        before = item.progress.trace
        former = otel.remote({"traceparent": before}) if before else None
        links = [*producers, former] if former is not None else producers
        item.span = otel.start(
            f"process {item.claimed.list}",
            "consumer",
            parent=parent,
            links=links,
            attributes=_attributes(item),
            trace_of=item.token,
        )
        item.progress.trace = otel.carrier(item.span).get("traceparent", "")
    spans = _sampled(items)
    if spans:
        attributes = _batch("claim", "receive", items, consumer)
        otel.start("claim", "client", links=spans, attributes=attributes, start_ns=began_ns).end()


def _sampled(items: Iterable[Item]) -> list[Span]:
    """The spans of the items that are sampled."""
    return [item.span for item in items if item.span is not None and item.span.is_recording()]


def _attributes(item: Item) -> dict[str, Any]:
    """The attributes of an item's span. They are few, because each costs more time than the span
    itself. The consumer is left out, because the token begins with it.
    """
    claimed = item.claimed
    attributes: dict[str, Any] = {
        **_SYSTEM,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": claimed.list,
        "messaging.message.id": claimed.token,
        "conserver.chain": item.route.name,
    }
    if item.progress.attempts:
        attributes["conserver.attempt"] = item.progress.attempts + 1
    if claimed.deaths:
        attributes["conserver.deliveries"] = claimed.deaths
    if claimed.job:
        attributes["conserver.job"] = claimed.job
    return attributes


def _batch(name: str, kind: str, items: Sequence[Item], consumer: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        **_SYSTEM,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.batch.message_count": len(items),
        "messaging.client.id": consumer,
    }
    lists = {item.claimed.list for item in items}
    if len(lists) == 1:
        attributes["messaging.destination.name"] = lists.pop()
    return attributes


def _read_contexts(
    otel: Otel, items: Sequence[Item], redis: RetryingConnection, expiry_s: int
) -> list[tuple[SpanContext | None, list[SpanContext]]]:
    """For each item the spans that its producer has named, as (parent, links)."""
    asked: list[tuple[str, ...]] = []
    for item in items:
        if item.claimed.job:
            asked.append(("HMGET", keys.job(item.claimed.job), "traceparent", "tracestate"))
        if expiry_s and usable_uuid(item.uuid):
            asked.append(("LPOP", keys.trace_context(item.claimed.list, item.uuid)))
    answers = iter(redis.hints(asked) if asked else ())
    found = []
    for item in items:
        job = next(answers) if item.claimed.job else None
        noted = next(answers) if expiry_s and usable_uuid(item.uuid) else None
        link = otel.noted(noted) if isinstance(noted, bytes) else None
        parent = None
        if job is not None and job[0]:
            headers = zip(("traceparent", "tracestate"), job, strict=True)
            parent = otel.remote({name: text.decode("latin-1") for name, text in headers if text})
        found.append((parent, [] if link is None else [link]))
    return found


def ended(item: Item, how: str, error: str = "", text: str = "") -> None:
    """Close the span of an item that has left the worker.

    Args:
        how: done, filtered, cancelled, parked, released, dead_letter or lost.
        error: the kind of the error, if there was one. text: its message.
    """
    span, item.span = item.span, None
    if span is None or not span.is_recording():
        return
    span.set_attributes(
        {
            "conserver.outcome": how,
            "messaging.message.conversation_id": item.uuid,
            "messaging.message.body.size": len(item.text),
        }
    )
    outcome = item.outcome
    if not error and how in ("parked", "dead_letter"):
        if outcome is not None and outcome.kind in _FAILURES:
            error, text = outcome.error_type or outcome.kind.value, outcome.message
        elif item.answers is not None and item.answers.unavailable:
            error, text = "unavailable", next(iter(item.answers.unavailable.values()))
    if error:
        _failed(span, error, text)
    span.end()


def _failed(span: Span, error: str, text: str) -> None:
    from conserver.telemetry.otel import failed

    failed(span, error, text)


# ---- links ---------------------------------------------------------------------------------------


def around_link(
    run: Callable[[Item, LoadedLink, float], ChainOutcome | None],
    item: Item,
    link: LoadedLink,
    started_s: float,
) -> ChainOutcome | None:
    """Run a link inside a span that is active in this thread, so that spans of the libraries that
    the link uses become its children.
    """
    otel = TRACES.otel
    if otel is None or item.span is None:
        return run(item, link, started_s)
    if not item.span.is_recording():
        with otel.inside(item.span):
            return run(item, link, started_s)
    attributes = {"conserver.module": link.module}
    with otel.span(f"link {link.name}", parent=item.span, attributes=attributes) as span:
        outcome = run(item, link, started_s)
        if outcome is not None:
            span.set_attribute("conserver.outcome", outcome.kind.value)
            if outcome.kind in _FAILURES:
                _failed(span, outcome.error_type or outcome.kind.value, outcome.message)
        return outcome


# ---- storages ------------------------------------------------------------------------------------


def storage_call(
    operation: str,
    storage: str,
    items: Sequence[Item],
    call: Callable[[], Mapping[str, Outcome]],
) -> Mapping[str, Outcome]:
    """Call a storage inside a span that is active in this thread, so that spans of the storage's
    client become its children.

    If the call is for one item, its span is part of the item's trace. If it is for several items,
    its span begins a new trace and is linked to the items' spans. The trace of each item then gets
    a span that is linked to the span of the call.
    """
    otel = TRACES.otel
    if otel is None:
        return call()
    traced = [item for item in items if item.span is not None and item.span.is_recording()]
    if not traced:
        # No item is sampled, so the spans of the storage's client are not sent either.
        unsampled = next((item.span for item in items if item.span is not None), None)
        with otel.inside(unsampled) if unsampled is not None else nullcontext():
            return call()
    name = f"{operation} {storage}"
    attributes = {
        "conserver.storage": storage,
        "db.operation.name": operation,
        "db.operation.batch.size": len(items),
    }
    if len(traced) == 1:
        with otel.span(name, "client", parent=traced[0].span, attributes=attributes) as span:
            outcomes = call()
            _show(span, outcomes.get(traced[0].uuid))
            return outcomes
    began_ns = time.time_ns()
    outcomes = {}
    failure = ""
    links = _sampled(traced)
    with otel.span(name, "client", links=links, attributes=attributes) as span:
        try:
            outcomes = call()
        except Exception as error:
            failure = type(error).__name__
            raise
        finally:
            for item in traced:
                one = otel.start(
                    name,
                    "client",
                    parent=item.span,
                    links=[span],
                    attributes=attributes,
                    start_ns=began_ns,
                )
                if failure:
                    _failed(one, failure, "the call for all of them failed")
                else:
                    _show(one, outcomes.get(item.uuid))
                one.end()
    return outcomes


def look_up(storage: str, item: Item, call: Callable[[], bytes | None]) -> bytes | None:
    """Ask a storage for an item's document, inside a span that is active in this thread."""
    otel = TRACES.otel
    if otel is None or item.span is None or not item.span.is_recording():
        return call()
    attributes = {"conserver.storage": storage, "db.operation.name": "look up"}
    with otel.span(f"look up {storage}", "client", parent=item.span, attributes=attributes) as span:
        found = call()
        span.set_attribute("conserver.found", found is not None)
        return found


def _show(span: Span, outcome: Outcome | None) -> None:
    if outcome is not None and not isinstance(outcome, Stored):
        kind = "rejected" if isinstance(outcome, Rejected) else "unavailable"
        _failed(span, kind, getattr(outcome, "reason", ""))


# ---- Redis ---------------------------------------------------------------------------------------


def redis_call(redis: RetryingConnection, call: Call, items: Iterable[Item], consumer: str) -> Any:
    """Call a script that writes, settles or moves items, in a span that is linked to the items."""
    otel = TRACES.otel
    if otel is None:
        return redis.call(call)
    batch = list(items)
    spans = _sampled(batch)
    if not spans:
        return redis.call(call)
    kind = "send" if call.step == "write" else "settle"
    parent, links = (spans[0], []) if len(spans) == 1 else (None, spans)
    attributes = _batch(call.step, kind, batch, consumer)
    with otel.span(call.step, "client", parent=parent, links=links, attributes=attributes):
        return redis.call(call)


def leave_contexts(
    redis: RetryingConnection,
    pushed: Iterable[tuple[Item, Sequence[tuple[str, str]]]],
    expiry_s: int,
) -> None:
    """Write the span of each item to the context lists of its pushes, as vcon-server does, so that
    the consumer of an egress list finds the span. The next call, the settle, sends this along.

    Args:
        pushed: each item with its pushes, as (list, uuid).
    """
    otel = TRACES.otel
    if otel is None or not expiry_s:
        return
    for item, pushes in pushed:
        note = otel.note(item.span) if item.span is not None and pushes else b""
        if not note:
            continue
        for name, uuid in pushes:
            key = keys.trace_context(name, uuid)
            redis.beside += [("RPUSH", key, note), ("EXPIRE", key, expiry_s)]
