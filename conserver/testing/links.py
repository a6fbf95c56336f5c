"""run_link: runs a link once on a vCon, by the worker's own code and without any server.

It validates the options as `conserver check` does, calls `prepare`, and handles the link's result
or exception as a worker does.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, Literal, TypeAlias

import orjson
from pydantic import BaseModel
from structlog.testing import capture_logs

from conserver.config.model import ChainConfig, LinkConfig
from conserver.errors import Rejected, Retry
from conserver.plugins.loader import LoadedLink, load_link
from conserver.plugins.module_names import resolve
from conserver.process.shared_status import SharedStatus
from conserver.queue.record import Claimed, Progress, Source
from conserver.vcon.document import Vcon
from conserver.worker.chain import ChainRunner
from conserver.worker.inbox import WorkerInbox
from conserver.worker.item import ChainOutcome, Item, OutcomeKind, Route

UUID = "01900000-0000-8000-8000-000000000001"
"""The uuid that run_link and make_vcon add to a vCon without one."""

VconLike: TypeAlias = Vcon | Mapping[str, Any] | bytes | str
LinkLike: TypeAlias = str | ModuleType | Callable[[Vcon, Any, Any], Vcon | None]
LinkEnd: TypeAlias = Literal["done", "filtered", "retry", "rejected", "cancelled"]


@dataclass(frozen=True)
class LinkRun:
    """The result of one run of a link.

    Attributes:
        outcome: "done" if the link returned the vCon, "filtered" if it returned None or raised
            Filtered, "retry" and "rejected" after these exceptions, "cancelled" if the run ended in
            check_cancelled().
        vcon: the vCon as the link has left it. (After a retry, a worker would drop the changes
            since the last checkpoint.)
        changed: whether the link has changed the vCon.
        retry: the Retry that the link raised, with `after_s` and `reason`; else None.
        rejected: why the item would become a dead letter: the Rejected that the link raised, or a
            fault of the vCon that it returned; else None.
        pushes: (list, uuid) of each context.push(), in order.
        expiry_s: the last context.expire(); None without one.
        checkpoints: the document at each context.checkpoint().
        progress: the last context.progress(): done, total and unit; None without one.
        logged: the link's log lines, as dicts with `log_level`, `event` and the fields.
    """

    outcome: LinkEnd
    vcon: Vcon
    changed: bool
    retry: Retry | None = None
    rejected: Rejected | None = None
    pushes: list[tuple[str, str]] = field(default_factory=list)
    expiry_s: int | None = None
    checkpoints: list[bytes] = field(default_factory=list)
    progress: tuple[float, float | None, str] | None = None
    logged: list[dict[str, Any]] = field(default_factory=list)

    @property
    def filtered(self) -> bool:
        """Whether the link has stopped the chain: the item is neither stored nor passed on."""
        return self.outcome == "filtered"


def make_vcon(**members: Any) -> Vcon:
    """A vCon with these members, and with a uuid if `members` has none."""
    return Vcon.parse(orjson.dumps({"vcon": "0.4.0", "uuid": UUID, **members}))


def run_link(
    module: LinkLike,
    vcon: VconLike,
    options: Mapping[str, Any] | BaseModel | None = None,
    *,
    attempt: int = 1,
    last_attempt: bool = False,
    soft_timeout_s: float | None = None,
    cancel_after: int | None = None,
) -> LinkRun:
    """Run a link once on a vCon.

    Args:
        module: the link's name as in a configuration (`links.tag`, `my_link`), its module, or a
            function (vcon, options, context).
        vcon: a document, as a dict or as JSON; or a Vcon. A Vcon is changed in place, so that a
            test can run a link on it twice.
        options: as in a configuration, or an instance of the link's `Options`.
        attempt: the value of context.attempt.
        last_attempt: the value of context.last_attempt.
        soft_timeout_s: the soft time limit, from which context.remaining_s() counts down; None: no
            limit.
        cancel_after: how many calls of context.check_cancelled() pass before one raises; None: all.

    Raises:
        ConfigError: the options are wrong, or there is no such link.
        Rejected: the document is not a vCon.
        Exception: any exception of the link that counts as a failed attempt.
    """
    loaded = replace(_loaded(module, options), soft_timeout_s=soft_timeout_s)
    loaded.prepare()
    raised: list[BaseException] = []
    item = _item(_recording(loaded, raised), vcon, attempt, last_attempt)
    before = item.vcon.dump() if item.vcon is not None else item.text
    with _inbox(item, cancel_after) as (status, inbox), capture_logs() as logged:
        ChainRunner(status, inbox).run(item)
    outcome = item.outcome
    assert outcome is not None
    if item.vcon is None:
        raise Rejected(outcome.message)
    if outcome.kind is OutcomeKind.FAILED:
        raise raised[0] if raised else RuntimeError(outcome.message)
    result = _result(item, outcome, raised, before)
    return replace(result, checkpoints=inbox.checkpoints_made, logged=[dict(e) for e in logged])


def _loaded(module: LinkLike, options: Mapping[str, Any] | BaseModel | None) -> LoadedLink:
    if not isinstance(module, str | ModuleType):
        return LoadedLink(name="link", module=module.__module__, run=module, options=options)
    name = module if isinstance(module, str) else module.__name__
    if not isinstance(options, BaseModel):
        return load_link("link", LinkConfig(module=name, options=dict(options or {})))
    # An instance of Options is validated already.
    found: Any = importlib.import_module(resolve(name))
    prepare = getattr(found, "prepare", None)
    return LoadedLink("link", name, run=found.run, options=options, prepare_module=prepare)


def _recording(link: LoadedLink, raised: list[BaseException]) -> LoadedLink:
    """The same link, which also adds its exceptions to `raised`: a worker keeps only their text."""

    def run(vcon: Vcon, options: Any, context: Any) -> Vcon | None:
        try:
            return link.run(vcon, options, context)
        except BaseException as error:
            raised.append(error)
            raise

    return replace(link, run=run)


def _item(link: LoadedLink, vcon: VconLike, attempt: int, last_attempt: bool) -> Item:
    chain = ChainConfig(links=[link.name], ingress_lists=["ingress"])
    route = Route("chain", chain, (link,), (link.name,), (), None, 0.0)
    progress = Progress(
        runs={link.name: attempt - 1}, failures=chain.retries if last_attempt else 0
    )
    text = b"" if isinstance(vcon, Vcon) else _text(vcon)
    claimed = Claimed("token", 1, 0, False, 0, "ingress", b"", text, Source.INLINE)
    item = Item(claimed, route, progress, status_slot=0, claimed_at_s=0.0, text=text)
    if isinstance(vcon, Vcon):
        item.vcon, item.uuid = vcon, vcon.uuid
    return item


def _text(vcon: Mapping[str, Any] | bytes | str) -> bytes:
    if isinstance(vcon, bytes):
        return vcon
    if isinstance(vcon, str):
        return vcon.encode()
    return orjson.dumps({"uuid": UUID, **vcon})


class _Inbox(WorkerInbox):
    """Saves checkpoints in a list, and cancels the item after a number of checks."""

    def __init__(self, status: SharedStatus, cancel_after: int | None) -> None:
        super().__init__(status)
        self.checkpoints_made: list[bytes] = []
        # One more, because ChainRunner checks once before the link.
        self._looks_left = None if cancel_after is None else cancel_after + 1

    def is_cancelled(self, item: Item) -> bool:
        if self._looks_left is None:
            return False
        self._looks_left -= 1
        return self._looks_left < 0

    def checkpoint(self, item: Item) -> None:
        item.dump_vcon()
        assert item.vcon is not None
        self.checkpoints_made.append(item.vcon.dump())


@contextlib.contextmanager
def _inbox(item: Item, cancel_after: int | None) -> Iterator[tuple[SharedStatus, _Inbox]]:
    """A worker's shared status and inbox, without the worker."""
    status = SharedStatus.create("run-link")
    inbox = _Inbox(status, cancel_after)
    try:
        status.hold(item.status_slot, item.token, item.claimed.epoch, item.uuid, item.route.name)
        yield status, inbox
    finally:
        os.close(inbox.fileno())
        status.close()


def _result(
    item: Item, outcome: ChainOutcome, raised: list[BaseException], before: bytes
) -> LinkRun:
    error = raised[0] if raised else None
    rejected = error if isinstance(error, Rejected) else None
    if outcome.kind is OutcomeKind.REJECTED and rejected is None:
        rejected = Rejected(outcome.message)
    vcon = item.vcon
    assert vcon is not None
    end: Any = outcome.kind.value
    return LinkRun(
        outcome=end,
        vcon=vcon,
        changed=_dumped(vcon) != before,
        retry=error if isinstance(error, Retry) else None,
        rejected=rejected,
        pushes=item.progress.pushes,
        expiry_s=item.progress.expire_s,
        progress=item.link_progress and item.link_progress[:3],
    )


def _dumped(vcon: Vcon) -> bytes | None:
    """The vCon as JSON; None if the link has put a value into it that JSON cannot hold."""
    try:
        return vcon.dump()
    except Rejected:
        return None
