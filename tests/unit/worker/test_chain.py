"""chain.py: runs one item through its links, and gives every run an outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import orjson
import pytest
from structlog.testing import capture_logs

from conserver.config.model import ChainConfig
from conserver.errors import Cancelled, Filtered, Rejected, Retry
from conserver.plugins.loader import LoadedLink
from conserver.process.shared_status import Phase, SharedStatus, StatusItem
from conserver.queue.record import Claimed, Progress, Source
from conserver.vcon.document import Vcon
from conserver.worker.chain import ChainRunner
from conserver.worker.checkpoint import StartAnew, TakenAway
from conserver.worker.inbox import WorkerInbox
from conserver.worker.item import ChainOutcome, Item, OutcomeKind, Route
from tests.queues import document
from tests.workers import link, nothing, tag

SLOT = 3


JWS = b'{"payload": "e30", "signatures": [{"header": {"uuid": "%b"}}]}'


class Inbox(WorkerInbox):
    """Carries out checkpoints by itself and records them: body, links and pushes of the item.

    at_checkpoint: called for each one. cancelled_all: every item counts as cancelled.
    """

    def __init__(self, status: SharedStatus) -> None:
        super().__init__(status)
        self.at_checkpoint: Callable[[Item], None] = lambda _item: None
        self.saved: list[tuple[bytes, list[str], list[tuple[str, str]]]] = []
        self.cancelled_all = False

    def checkpoint(self, item: Item) -> None:
        item.dump_vcon()
        self.at_checkpoint(item)
        self.saved.append((item.body, list(item.progress.links), list(item.progress.pushes)))
        item.saved_state = item.progress.dump()
        item.document_written(item.body, item.revision + 1)

    def is_cancelled(self, item: Item) -> bool:
        return self.cancelled_all


class Setup:
    """A ChainRunner and what it needs, without a worker loop."""

    def __init__(self) -> None:
        self.status = SharedStatus.create("test")
        self.inbox = Inbox(self.status)
        self.runner = ChainRunner(self.status, self.inbox)

    def item(self, *links: LoadedLink, text: bytes = b"", **fields: Any) -> Item:
        """An item of a chain of these links."""
        config = ChainConfig.model_validate({"ingress_lists": ["in"], **fields.pop("config", {})})
        route = Route(
            "main",
            config,
            links,
            tuple(one.name for one in links),
            (),
            config.soft_timeout_s,
            config.hard_timeout_s or 0.0,
        )
        text = text or document("u1")
        source = fields.pop("source", Source.STORED)
        inline = source is Source.INLINE
        payload = fields.pop("payload", text if inline else b"u1")
        claimed = Claimed("token", 1, 0, False, 0, "in", b"", payload, source, text)
        progress = fields.pop("progress", None) or Progress()
        item = Item(claimed, route, progress, SLOT, time.monotonic(), text=text, **fields)
        item.uuid = "" if inline else payload.decode("utf-8", "replace")
        self.status.hold(SLOT, "token", 1, item.uuid, "main")
        return item

    def run(self, *links: LoadedLink, **fields: Any) -> tuple[Item, ChainOutcome]:
        """Run an item of a chain of these links."""
        item = self.item(*links, **fields)
        self.runner.run(item)
        assert item.outcome is not None
        return item, item.outcome

    @property
    def shown(self) -> StatusItem:
        """The item as SharedStatus shows it."""
        [found] = self.status.read().items
        return found


@pytest.fixture
def setup() -> Iterator[Setup]:
    made = Setup()
    yield made
    made.status.close()


def raises(error: BaseException) -> Callable[[Vcon, Any], Vcon]:
    def run(_vcon: Vcon, _context: Any) -> Vcon:
        raise error

    return run


# ---- throttled links ----------------------------------------------------------------------------


def test_a_throttled_link_is_not_called(setup: Setup) -> None:
    called: list[str] = []

    def note(vcon: Vcon, context: Any) -> Vcon:
        called.append(context.link)
        vcon.add_tag(context.link, "done")
        return vcon

    setup.inbox.throttle("b", 60)
    item, outcome = setup.run(link("a", note), link("b", note), link("c", note))
    assert (outcome.kind, outcome.link) == (OutcomeKind.RATE, "b")
    assert outcome.after_s is not None
    assert 50 < outcome.after_s <= 60
    assert called == ["a"]
    assert item.progress.links == ["a"]
    assert item.progress.attempts == 0
    assert item.progress.rate_slots == ["throttled:b"]
    assert Vcon.parse(item.body).tags == {"a": "done"}, "what was done is kept"


def test_an_item_that_comes_back_goes_on(setup: Setup) -> None:
    progress = Progress(links=["a"], rate_slots=["throttled:b"])
    item, outcome = setup.run(link("a", nothing), link("b", tag), progress=progress)
    assert outcome.kind is OutcomeKind.DONE
    assert item.progress.rate_slots == []


def test_a_link_that_throttles_itself_goes_on_and_the_next_item_waits(setup: Setup) -> None:
    def ask(vcon: Vcon, context: Any) -> Vcon:
        context.throttle(60)
        return vcon

    assert setup.run(link("a", ask))[1].kind is OutcomeKind.DONE
    assert setup.run(link("a", ask))[1].kind is OutcomeKind.RATE
    assert setup.run(link("other", nothing))[1].kind is OutcomeKind.DONE
    assert [name for name, _ in setup.inbox.throttles.unreported()] == ["a"]


# ---- links in order ------------------------------------------------------------------------------


def test_links_run_in_order_on_one_vcon(setup: Setup) -> None:
    seen: list[str] = []

    def note(vcon: Vcon, context: Any) -> Vcon:
        seen.append(f"{context.link} of {context.chain} on {context.uuid}")
        vcon.add_tag(context.link, "done")
        return vcon

    item, outcome = setup.run(link("a", note), link("b", note))
    assert outcome == ChainOutcome(OutcomeKind.DONE)
    assert seen == ["a of main on u1", "b of main on u1"]
    assert item.progress.links == ["a", "b"]
    assert Vcon.parse(item.body).tags == {"a": "done", "b": "done"}
    assert item.needs_write
    assert item.links_s > 0


def test_an_unchanged_document_keeps_its_bytes(setup: Setup) -> None:
    text = b'{ "uuid":"u1", "a":1.0, "a":2 }'
    item, outcome = setup.run(link("a", nothing), text=text)
    assert outcome.kind is OutcomeKind.DONE
    assert item.body is item.text
    assert not item.needs_write


def test_a_chain_without_links_is_done(setup: Setup) -> None:
    item, outcome = setup.run()
    assert (outcome.kind, item.needs_write) == (OutcomeKind.DONE, False)


def test_none_stops_the_chain_and_keeps_what_was_changed(setup: Setup) -> None:
    def stop(vcon: Vcon, _context: Any) -> None:
        vcon.add_tag("stopped", "here")

    item, outcome = setup.run(link("a", stop), link("b", raises(ValueError("not run"))))
    assert (outcome.kind, outcome.link) == (OutcomeKind.FILTERED, "a")
    assert item.progress.links == []
    assert b"stopped:here" in item.body


@pytest.mark.parametrize("answer", ["u1", {"uuid": "u1"}, True])
def test_any_other_answer_is_rejected(setup: Setup, answer: object) -> None:
    def run(_vcon: Vcon, _context: Any) -> Any:
        return answer

    _, outcome = setup.run(link("a", run))
    assert (outcome.kind, outcome.link) == (OutcomeKind.REJECTED, "a")
    assert "link a returned" in outcome.message


def test_links_that_an_earlier_attempt_has_finished_are_skipped(setup: Setup) -> None:
    item, outcome = setup.run(
        link("a", raises(ValueError("not run"))),
        link("b", tag),
        progress=Progress(links=["a"]),
    )
    assert outcome.kind is OutcomeKind.DONE
    assert item.progress.links == ["a", "b"]


def test_a_chain_whose_configuration_has_changed_runs_from_its_first_link(setup: Setup) -> None:
    def push(vcon: Vcon, context: Any) -> Vcon:
        context.push("aside")
        return vcon

    progress = Progress(links=["old", "a"], pushes=[("aside", "u1")], expire_s=9)
    item, _ = setup.run(link("a", push), link("b", nothing), progress=progress)
    assert item.progress.links == ["a", "b"]
    assert item.progress.pushes == [("aside", "u1")], "once: the old ones were dropped"
    assert item.progress.expire_s is None


# ---- what links may return -----------------------------------------------------------------------


def test_a_link_may_return_another_vcon_object(setup: Setup) -> None:
    # Regression: the new object's base was its own text, so that the change was not noticed and the
    # old document was stored.
    def replace(vcon: Vcon, _context: Any) -> Vcon:
        return Vcon.parse(orjson.dumps({**vcon.view, "subject": "new"}))

    item, outcome = setup.run(link("a", replace), link("b", tag))
    assert outcome.kind is OutcomeKind.DONE
    assert item.needs_write
    body = orjson.loads(item.body)
    assert body["subject"] == "new"
    assert Vcon.parse(item.body).tags == {"seen": "yes"}
    assert item.vcon is not None
    assert item.vcon.base == item.text, "a merge compares with the claimed document"


def test_another_object_with_the_same_content_is_no_change(setup: Setup) -> None:
    item, _ = setup.run(link("a", lambda vcon, _: Vcon.parse(orjson.dumps(vcon.view))))
    assert not item.needs_write


@pytest.mark.parametrize("answers", [True, False])
def test_a_vcon_with_another_uuid_is_rejected(setup: Setup, answers: bool) -> None:
    def swap(_vcon: Vcon, _context: Any) -> Vcon:
        return Vcon.parse(document("u2"))

    def rename(vcon: Vcon, _context: Any) -> Vcon | None:
        vcon.data["uuid"] = "u2"
        return vcon if answers else None

    _, outcome = setup.run(link("a", rename))
    assert outcome.kind is OutcomeKind.REJECTED
    assert "'u2' instead of 'u1'" in outcome.message
    _, outcome = setup.run(link("a", swap))
    assert outcome.kind is OutcomeKind.REJECTED


@pytest.mark.parametrize("content", [{1, 2}, object(), float])
def test_what_json_cannot_hold_is_rejected_in_the_chain_thread(
    setup: Setup, content: object
) -> None:
    # Regression: it raised in the worker loop and ended the worker, with every item that it held.
    def spoil(vcon: Vcon, _context: Any) -> Vcon:
        vcon.add_analysis({"type": "bad", "body": content})
        return vcon

    def spoil_quietly(vcon: Vcon, _context: Any) -> Vcon:
        vcon.data["subject"] = content
        return vcon

    for run in (spoil, spoil_quietly):
        item, outcome = setup.run(link("a", run))
        assert outcome.kind is OutcomeKind.REJECTED
        assert "cannot be written as JSON" in outcome.message
        assert not item.needs_write


def test_a_signed_vcon_is_passed_through_and_cannot_be_changed(setup: Setup) -> None:
    text = b'{"payload": "e30", "signatures": [{"header": {"uuid": "u1"}}]}'
    item, outcome = setup.run(link("a", nothing), text=text)
    assert outcome.kind is OutcomeKind.DONE
    assert item.body is item.text
    _, outcome = setup.run(link("a", tag), text=text)
    assert (outcome.kind, outcome.link) == (OutcomeKind.REJECTED, "a")


def test_a_link_cannot_hand_on_the_envelope_of_another_vcon(setup: Setup) -> None:
    for uuid, kind in ((b"u1", OutcomeKind.DONE), (b"u2", OutcomeKind.REJECTED)):
        _, outcome = setup.run(link("a", lambda *_, uuid=uuid: Vcon.parse(JWS % uuid)))
        assert outcome.kind is kind


# ---- how a run ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (Retry(7.5, "busy"), OutcomeKind.RETRY, "busy"),
        (Rejected("never"), OutcomeKind.REJECTED, "never"),
        (Cancelled("enough"), OutcomeKind.CANCELLED, "enough"),
        (StartAnew(), OutcomeKind.START_ANEW, ""),
        (TakenAway(), OutcomeKind.LOST, ""),
        (ValueError("odd"), OutcomeKind.FAILED, "odd"),
        (KeyError(), OutcomeKind.FAILED, "KeyError"),
        (SystemExit(3), OutcomeKind.FAILED, "3"),
        (KeyboardInterrupt(), OutcomeKind.FAILED, "KeyboardInterrupt"),
        (GeneratorExit(), OutcomeKind.FAILED, "GeneratorExit"),
        (MemoryError(), OutcomeKind.FAILED, "MemoryError"),
    ],
)
def test_nothing_that_a_link_raises_escapes(
    setup: Setup, error: BaseException, kind: OutcomeKind, reason: str
) -> None:
    item, outcome = setup.run(link("a", nothing), link("b", raises(error)))
    assert (outcome.kind, outcome.message, outcome.link) == (kind, reason, "b")
    assert item.progress.links == ["a"]
    if kind is OutcomeKind.FAILED:
        assert "raise error" in outcome.traceback
        assert outcome.error_type
    if kind is OutcomeKind.RETRY:
        assert outcome.after_s == 7.5


def test_a_link_that_recurses_without_end_is_a_failed_attempt(setup: Setup) -> None:
    def recurse(vcon: Vcon, context: Any) -> Vcon:
        return recurse(vcon, context)

    _, outcome = setup.run(link("a", recurse))
    assert (outcome.kind, outcome.error_type) == (OutcomeKind.FAILED, "RecursionError")
    assert len(outcome.traceback) <= 8000


def test_secrets_are_redacted_before_a_traceback_is_cut(setup: Setup) -> None:
    text = "redis://u:" + "pa55" * 3000 + "@h"
    _, outcome = setup.run(link("a", raises(ValueError(text))))
    assert "pa55" not in outcome.traceback
    assert outcome.traceback.endswith("ValueError: redis://u:***@h\n")


def test_the_name_of_an_error_has_its_module(setup: Setup) -> None:
    _, outcome = setup.run(link("a", raises(orjson.JSONDecodeError("x", "y", 0))))
    assert outcome.error_type.endswith("JSONDecodeError")
    assert "." in outcome.error_type


@pytest.mark.parametrize(
    "run",
    [nothing, tag, lambda _vcon, _context: None, raises(ValueError()), raises(Retry())],
)
def test_time_limits_end_with_the_last_link(
    setup: Setup, run: Callable[[Vcon, Any], Vcon | None]
) -> None:
    # Regression: while Redis was unavailable for 90 s, the worker was killed for the hard limit of
    # a link that had ended long before.
    phases: list[Phase] = []

    def look(vcon: Vcon, _context: Any) -> Vcon:
        phases.append(setup.shown.phase)
        return vcon

    limited = {"hard_timeout_s": 2}
    setup.run(link("a", look, hard_timeout_s=1.5), link("b", run), config=limited)
    assert phases == [Phase.RUNNING]
    assert setup.shown.phase is Phase.FINISHING


def test_shared_status_shows_which_link_runs_and_its_limits(setup: Setup) -> None:
    shown: list[StatusItem] = []

    def look(vcon: Vcon, _context: Any) -> Vcon:
        shown.append(setup.shown)
        return vcon

    setup.run(link("a", look, hard_timeout_s=1.5), link("b", look), config={"hard_timeout_s": 2})
    assert [(one.link, one.limit_s, one.chain_limit_s) for one in shown] == [
        ("a", 1.5, 2.0),
        ("b", 0.0, 2.0),
    ]
    assert shown[0].link_run != shown[1].link_run
    assert shown[0].chain_run == shown[1].chain_run


def test_the_earlier_soft_limit_of_link_and_chain_counts(setup: Setup) -> None:
    left: list[float | None] = []

    def look(vcon: Vcon, context: Any) -> Vcon:
        left.append(context.remaining_s())
        return vcon

    setup.run(link("a", look))
    setup.run(link("a", look, soft_timeout_s=50), config={"soft_timeout_s": 100})
    setup.run(link("a", look, soft_timeout_s=200), config={"soft_timeout_s": 100})
    setup.run(link("a", look, soft_timeout_s=1e-9))
    assert left[0] is None
    assert left[1] is not None
    assert 49 < left[1] <= 50
    assert left[2] is not None
    assert 99 < left[2] <= 100
    assert left[3] == 0.0


def test_attempt_counts_the_failed_runs_of_this_link(setup: Setup) -> None:
    seen: list[tuple[str, int]] = []

    def look(vcon: Vcon, context: Any) -> Vcon:
        seen.append((context.link, context.attempt))
        return vcon

    setup.run(link("a", look))
    progress = Progress(attempts=4, runs={"a": 4, "b": 1})
    setup.run(link("a", look), link("b", look), link("c", look), progress=progress)
    assert seen == [("a", 1), ("a", 5), ("b", 2), ("c", 1)]


def test_a_link_knows_its_last_attempt(setup: Setup) -> None:
    """Only failures count against the chain's retries, not attempts that asked for later."""
    seen: list[bool] = []

    def look(vcon: Vcon, context: Any) -> Vcon:
        seen.append(context.last_attempt)
        return vcon

    for failures in (0, 1, 2):
        progress = Progress(attempts=9, failures=failures)
        setup.run(link("a", look), progress=progress, config={"retries": 2})
    assert seen == [False, False, True]


# ---- cancelling ----------------------------------------------------------------------------------


def test_a_cancelled_item_ends_before_its_next_link(setup: Setup) -> None:
    def cancel(vcon: Vcon, _context: Any) -> Vcon:
        setup.inbox.cancelled_all = True
        return vcon

    item, outcome = setup.run(link("a", cancel), link("b", raises(ValueError("not run"))))
    assert outcome.kind is OutcomeKind.CANCELLED
    assert item.progress.links == ["a"]


def test_a_link_may_check_whether_its_item_is_cancelled(setup: Setup) -> None:
    def ask(_vcon: Vcon, context: Any) -> Vcon:
        context.check_cancelled()
        setup.inbox.cancelled_all = True
        context.check_cancelled()
        raise AssertionError("it went on")

    _, outcome = setup.run(link("a", ask))
    assert (outcome.kind, outcome.link) == (OutcomeKind.CANCELLED, "a")


# ---- checkpoints and effects ---------------------------------------------------------------------


def test_a_checkpoint_after_a_costly_link_counts_it_as_done(setup: Setup) -> None:
    setup.run(link("a", tag, costly=True), link("b", nothing), link("c", nothing))
    [(body, links, _)] = setup.inbox.saved
    assert links == ["a"]
    assert b"seen:yes" in body


def test_the_last_link_needs_no_checkpoint(setup: Setup) -> None:
    setup.run(link("a", nothing), link("b", tag, costly=True))
    assert setup.inbox.saved == []


def test_a_checkpoint_inside_a_link_does_not_count_it_as_done(setup: Setup) -> None:
    def half(vcon: Vcon, context: Any) -> Vcon:
        vcon.add_tag("half", "1")
        context.checkpoint()
        vcon.data["subject"] = "whole"
        return vcon

    item, _ = setup.run(link("a", nothing), link("b", half))
    [(body, links, _)] = setup.inbox.saved
    assert links == ["a"]
    assert b"half:1" in body
    assert b"whole" not in body
    assert orjson.loads(item.body)["subject"] == "whole"
    assert item.text == body


def test_what_json_cannot_hold_ends_the_link_at_its_checkpoint(setup: Setup) -> None:
    def spoil(vcon: Vcon, context: Any) -> Vcon:
        vcon.add_tag("half", "1")
        vcon.data["subject"] = object()
        context.checkpoint()
        return vcon

    _, outcome = setup.run(link("a", spoil))
    assert (outcome.kind, outcome.link) == (OutcomeKind.REJECTED, "a")
    assert setup.inbox.saved == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StartAnew(), OutcomeKind.START_ANEW),
        (TakenAway(), OutcomeKind.LOST),
        (Retry(30, "a hash"), OutcomeKind.RETRY),
        (Rejected("both changed it"), OutcomeKind.REJECTED),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_a_checkpoint_that_cannot_be_made_ends_the_run(
    setup: Setup, error: BaseException, kind: OutcomeKind, own: bool
) -> None:
    # Regression: a Retry from the checkpoint after a costly link counted as a failure of the link.
    def refuse(_item: Item) -> None:
        raise error

    setup.inbox.at_checkpoint = refuse

    def ask(vcon: Vcon, context: Any) -> Vcon:
        context.checkpoint()
        return vcon

    first = link("a", ask) if own else link("a", tag, costly=True)
    _, outcome = setup.run(first, link("b", raises(ValueError("not run"))))
    assert (outcome.kind, outcome.link) == (kind, "a")


@pytest.mark.parametrize(
    ("error", "kind"), [(StartAnew(), OutcomeKind.START_ANEW), (TakenAway(), OutcomeKind.LOST)]
)
def test_a_link_that_catches_everything_does_not_go_on_with_an_item_that_ended(
    setup: Setup, error: BaseException, kind: OutcomeKind
) -> None:
    # Regression: the item, which was to start from the newer document, overwrote that with its own.
    def refuse(_item: Item) -> None:
        raise error

    setup.inbox.at_checkpoint = refuse

    def careless(vcon: Vcon, context: Any) -> Vcon:
        try:
            context.checkpoint()
        except Exception:  # noqa: BLE001 - what the test is about
            vcon.add_tag("went", "on")
        return vcon

    _, outcome = setup.run(link("a", careless))
    assert outcome.kind == kind


def test_effects_belong_to_the_item_once_their_link_is_done(setup: Setup) -> None:
    # Regression: the checkpoint saved the push, and the link asked for it again when it was rerun.
    def ask(vcon: Vcon, context: Any) -> Vcon:
        context.push("one")
        context.push("two", "u9")
        context.expire(60)
        context.checkpoint()
        return vcon

    item, _ = setup.run(link("a", ask), link("b", nothing))
    assert [pushes for _, _, pushes in setup.inbox.saved] == [[]]
    assert item.progress.pushes == [("one", "u1"), ("two", "u9")]
    assert item.progress.expire_s == 60


@pytest.mark.parametrize("name", ["conserver:hosts", "DLQ:calls", "", "two\nlines"])
def test_a_link_pushes_to_no_list_of_the_queues_own(setup: Setup, name: str) -> None:
    """A list at the key conserver:hosts would stop all hosts."""

    def ask(vcon: Vcon, context: Any) -> Vcon:
        context.push(name)
        return vcon

    item, outcome = setup.run(link("a", ask))
    assert (outcome.kind, outcome.error_type) == (OutcomeKind.FAILED, "ValueError")
    assert "the name of a list must" in outcome.message
    assert item.progress.pushes == []


def test_effects_of_a_filtering_link_are_kept_and_those_of_a_failed_one_are_not(
    setup: Setup,
) -> None:
    def route_away(_vcon: Vcon, context: Any) -> None:
        context.push("elsewhere")

    def fail(_vcon: Vcon, context: Any) -> Vcon:
        context.push("nowhere")
        raise ValueError

    item, _ = setup.run(link("a", route_away))
    assert item.progress.pushes == [("elsewhere", "u1")]
    item, _ = setup.run(link("a", fail))
    assert item.progress.pushes == []


# ---- documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "source", "text", "words"),
    [
        (b"u1", Source.MISSING, b"", "vcon:u1 does not exist"),
        (b"u1", Source.BAD_KEY, b"", "vcon:u1 is a Redis hash"),
        (b"u1", Source.TOO_LARGE, b"", "larger than CONSERVER_MAX_DOCUMENT_BYTES"),
        (b"u1", Source.STORED, b"", "vcon:u1 holds an empty string"),
        (b"", Source.MISSING, b"", "empty"),
        (b"  ", Source.MISSING, b"", "empty"),
        (b"null", Source.MISSING, b"", "neither a uuid nor a vCon"),
        (b"[]", Source.MISSING, b"", "neither a uuid nor a vCon"),
        (b"17", Source.MISSING, b"", "neither a uuid nor a vCon"),
        (b"\xff\xfe", Source.MISSING, b"", "neither a uuid nor a vCon"),
        (b"u1", Source.STORED, b"{", "not JSON"),
        (b"u1", Source.STORED, b"[]", "a JSON array"),
        (b"u1", Source.STORED, b"{}", "no uuid"),
        (b"u1", Source.STORED, document("u2"), "another vCon: u2"),
        # uuid-1: an envelope that names its uuid is checked like any other.
        (b"u1", Source.STORED, JWS % b"u2", "another vCon: u2"),
        (
            b"u1",
            Source.STORED,
            b'{"ciphertext": "", "unprotected": {"uuid": "u2"}}',
            "another vCon: u2",
        ),
        (b"u1", Source.STORED, b'{"uuid": "u1", "dialog": {}}', "'dialog'"),
        (b"{}", Source.INLINE, b"{}", "no uuid"),
        (b"{", Source.INLINE, b"{", "not JSON"),
        (b"u1", Source.STORED, document("u1", critical=["x"]), "unknown here: x"),
    ],
)
def test_what_cannot_be_processed_is_rejected_with_its_own_reason(
    setup: Setup, payload: bytes, source: Source, text: bytes, words: str
) -> None:
    item = setup.item(link("a", raises(ValueError("not run"))), payload=payload, source=source)
    item.claimed.bad_key = ("vcon:u1", "hash")
    item.text = text
    setup.runner.run(item)
    assert item.outcome is not None
    assert item.outcome.kind is OutcomeKind.REJECTED
    assert words in item.outcome.message


def test_a_whole_document_brings_its_uuid(setup: Setup) -> None:
    item, outcome = setup.run(link("a", nothing), source=Source.INLINE)
    assert (item.uuid, outcome.kind) == ("u1", OutcomeKind.DONE)


@pytest.mark.parametrize(
    ("uuid", "pushed"), [("u9", "u9"), (UUID(int=7), str(UUID(int=7))), (None, "u1"), ("", "u1")]
)
def test_what_a_link_pushes_is_text(setup: Setup, uuid: Any, pushed: str) -> None:
    def ask(vcon: Vcon, context: Any) -> Vcon:
        context.push("aside", uuid)
        return vcon

    item, _ = setup.run(link("a", ask))
    assert item.progress.pushes == [("aside", pushed)]


def test_a_link_that_pushes_what_is_no_text_fails(setup: Setup) -> None:
    # Regression: it ended the worker, when the item was settled.
    def ask(vcon: Vcon, context: Any) -> Vcon:
        context.push("aside", "\ud800")
        return vcon

    _, outcome = setup.run(link("a", ask))
    assert (outcome.kind, outcome.error_type) == (OutcomeKind.FAILED, "UnicodeEncodeError")


def test_case_of_a_pushed_uuid_does_not_matter(setup: Setup) -> None:
    item, outcome = setup.run(text=document("ABC-1"), payload=b"abc-1")
    assert (item.uuid, outcome.kind) == ("abc-1", OutcomeKind.DONE)


@pytest.mark.parametrize("payload", [b"../../etc/passwd", b"a/b", b"a b", b"\xff"])
def test_an_envelope_under_an_unusable_key_is_rejected(setup: Setup, payload: bytes) -> None:
    # Regression: such an envelope names no uuid to compare with, and its key became a path in the
    # storages.
    text = b'{"ciphertext": "x", "recipients": []}'
    _, outcome = setup.run(text=text, payload=payload)
    assert outcome.kind is OutcomeKind.REJECTED
    assert "cannot serve as a uuid" in outcome.message


def test_extensions_that_a_chain_knows_may_be_critical(setup: Setup) -> None:
    text = document("u1", critical=["x"])
    _, outcome = setup.run(text=text, config={"supported_extensions": ["x"]})
    assert outcome.kind is OutcomeKind.DONE


# ---- links that stop the chain -------------------------------------------------------------------


def _filtering(reason: str) -> Any:
    def run(vcon: Vcon, _context: Any) -> Vcon:
        vcon.add_tag("seen", "yes")
        raise Filtered(reason)

    return run


def _forgetful(vcon: Vcon, _context: Any) -> Any:
    vcon.add_tag("forgotten", "yes")


def test_a_link_filters_with_a_reason_and_keeps_what_it_did(setup: Setup) -> None:
    def run(vcon: Vcon, context: Any) -> Vcon:
        context.push("elsewhere")
        return _filtering("too short")(vcon, context)  # type: ignore[no-any-return]

    with capture_logs() as logged:
        item = setup.item(link("a", run), link("b", tag))
        setup.runner.run(item)
    outcome = item.outcome
    assert outcome is not None
    assert (outcome.kind, outcome.link, outcome.message) == (OutcomeKind.FILTERED, "a", "too short")
    assert b"seen" in item.body
    assert item.progress.pushes == [("elsewhere", "u1")]
    assert logged == []


def test_a_link_that_changes_the_vcon_and_returns_none_is_told_of_once(setup: Setup) -> None:
    with capture_logs() as logged:
        for _ in range(3):
            item = setup.item(link("first", tag), link("forgetful", _forgetful))
            setup.runner.run(item)
            assert item.outcome is not None
            assert item.outcome.kind is OutcomeKind.FILTERED
    (line,) = [one for one in logged if one["event"] == "changed_and_filtered"]
    assert (line["link"], line["vcon"], line["log_level"]) == ("forgetful", "u1", "warning")


def _drop(_vcon: Vcon, _context: Any) -> Any:
    return None


def test_a_link_that_filters_what_it_leaves_alone_is_not_told_of(setup: Setup) -> None:
    with capture_logs() as logged:
        setup.runner.run(setup.item(link("first", tag), link("sampler", _drop)))
    assert logged == []
