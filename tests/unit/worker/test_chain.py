"""chain.py: one item through its links, and what becomes of whatever links and documents do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from conserver.config.model import ChainConfig
from conserver.errors import Cancelled, Rejected, Retry
from conserver.plugins.loader import LoadedLink
from conserver.process.shared_status import Phase, SharedStatus, StatusItem
from conserver.queue.record import Claimed, Progress
from conserver.vcon.document import Vcon
from conserver.worker.chain import ChainRunner, Lost, StartAnew
from conserver.worker.item import ChainOutcome, Item, Route
from tests.queues import document
from tests.workshop import link, nothing, tag

SLOT = 3


JWS = b'{"payload": "e30", "signatures": [{"header": {"uuid": "%b"}}]}'


class Stage:
    """A runner on a page of its own, with a keeper of straw."""

    def __init__(self) -> None:
        self.status = SharedStatus.create("straw")
        self.runner = ChainRunner(self.status, self._checkpoint, lambda _item: self.cancelled)
        self.cancelled = False
        self.at_checkpoint: Callable[[Item], None] = lambda _item: None
        self.saved: list[tuple[bytes, list[str], list[tuple[str, str]]]] = []

    def _checkpoint(self, item: Item) -> None:
        item.pack()
        self.at_checkpoint(item)
        self.saved.append((item.body, list(item.progress.links), list(item.progress.pushes)))
        item.saved = item.progress.dump()
        item.written(item.body, item.revision + 1)

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
        what = fields.pop("what", "text")
        payload = fields.pop("payload", text if what == "inline" else b"u1")
        claimed = Claimed("token", 1, 0, False, 0, "in", b"", payload, what, text)
        progress = fields.pop("progress", None) or Progress()
        item = Item(claimed, route, progress, SLOT, time.monotonic(), text=text, **fields)
        item.uuid = "" if what == "inline" else payload.decode("utf-8", "replace")
        self.status.hold(SLOT, "token", 1, item.uuid, "main")
        return item

    def run(self, *links: LoadedLink, **fields: Any) -> tuple[Item, ChainOutcome]:
        """Run such an item."""
        item = self.item(*links, **fields)
        self.runner.run(item)
        assert item.outcome is not None
        return item, item.outcome

    @property
    def shown(self) -> StatusItem:
        """The item on the page."""
        [found] = self.status.read().items
        return found


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.status.close()


def raises(error: BaseException) -> Callable[[Vcon, Any], Vcon]:
    def run(_vcon: Vcon, _context: Any) -> Vcon:
        raise error

    return run


# ---- links in order ------------------------------------------------------------------------------


def test_links_run_in_order_on_one_vcon(stage: Stage) -> None:
    seen: list[str] = []

    def note(vcon: Vcon, context: Any) -> Vcon:
        seen.append(f"{context.link} of {context.chain} on {context.uuid}")
        vcon.add_tag(context.link, "done")
        return vcon

    item, outcome = stage.run(link("a", note), link("b", note))
    assert outcome == ChainOutcome("done")
    assert seen == ["a of main on u1", "b of main on u1"]
    assert item.progress.links == ["a", "b"]
    assert Vcon.parse(item.body).tags == {"a": "done", "b": "done"}
    assert item.changed
    assert item.links_s > 0


def test_an_item_that_nothing_changed_has_the_bytes_that_it_came_with(stage: Stage) -> None:
    text = b'{ "uuid":"u1", "a":1.0, "a":2 }'
    item, outcome = stage.run(link("a", nothing), text=text)
    assert outcome.kind == "done"
    assert item.body is item.text
    assert not item.changed


def test_a_chain_without_links_is_done(stage: Stage) -> None:
    item, outcome = stage.run()
    assert (outcome.kind, item.changed) == ("done", False)


def test_none_stops_the_chain_and_keeps_what_was_changed(stage: Stage) -> None:
    def stop(vcon: Vcon, _context: Any) -> None:
        vcon.add_tag("stopped", "here")

    item, outcome = stage.run(link("a", stop), link("b", raises(ValueError("not run"))))
    assert (outcome.kind, outcome.link) == ("filtered", "a")
    assert item.progress.links == []
    assert b"stopped:here" in item.body


@pytest.mark.parametrize("answer", ["u1", {"uuid": "u1"}, True])
def test_any_other_answer_is_rejected(stage: Stage, answer: object) -> None:
    def run(_vcon: Vcon, _context: Any) -> Any:
        return answer

    _, outcome = stage.run(link("a", run))
    assert (outcome.kind, outcome.link) == ("rejected", "a")
    assert "link a returned" in outcome.reason


def test_resumes_behind_the_links_that_are_done(stage: Stage) -> None:
    item, outcome = stage.run(
        link("a", raises(ValueError("paid already"))),
        link("b", tag),
        progress=Progress(links=["a"]),
    )
    assert outcome.kind == "done"
    assert item.progress.links == ["a", "b"]


def test_a_chain_that_was_changed_meanwhile_is_run_from_its_start(stage: Stage) -> None:
    def push(vcon: Vcon, context: Any) -> Vcon:
        context.push("aside")
        return vcon

    progress = Progress(links=["old", "a"], pushes=[("aside", "u1")], expire_s=9)
    item, _ = stage.run(link("a", push), link("b", nothing), progress=progress)
    assert item.progress.links == ["a", "b"]
    assert item.progress.pushes == [("aside", "u1")], "asked for again, so kept once"
    assert item.progress.expire_s is None


# ---- what links may do to a vCon -----------------------------------------------------------------


def test_another_object_may_stand_for_the_vcon(stage: Stage) -> None:
    # Its base was its own text: the change was not seen, and the old document was stored.
    def replace(vcon: Vcon, _context: Any) -> Vcon:
        return Vcon.parse(orjson.dumps({**vcon.view, "subject": "new"}))

    item, outcome = stage.run(link("a", replace), link("b", tag))
    assert outcome.kind == "done"
    assert item.changed
    body = orjson.loads(item.body)
    assert body["subject"] == "new"
    assert Vcon.parse(item.body).tags == {"seen": "yes"}
    assert item.vcon is not None
    assert item.vcon.base == item.text, "a merge starts from what was claimed"


def test_another_object_with_the_same_content_is_no_change(stage: Stage) -> None:
    item, _ = stage.run(link("a", lambda vcon, _: Vcon.parse(orjson.dumps(vcon.view))))
    assert not item.changed


@pytest.mark.parametrize("answers", [True, False])
def test_another_vcon_is_rejected(stage: Stage, answers: bool) -> None:
    def swap(_vcon: Vcon, _context: Any) -> Vcon:
        return Vcon.parse(document("u2"))

    def rename(vcon: Vcon, _context: Any) -> Vcon | None:
        vcon.data["uuid"] = "u2"
        return vcon if answers else None

    _, outcome = stage.run(link("a", rename))
    assert outcome.kind == "rejected"
    assert "'u2' instead of 'u1'" in outcome.reason
    _, outcome = stage.run(link("a", swap))
    assert outcome.kind == "rejected"


@pytest.mark.parametrize("content", [{1, 2}, object(), float])
def test_what_json_cannot_hold_is_rejected_here_and_harms_nobody(
    stage: Stage, content: object
) -> None:
    # It raised in the keeper, which died of it and took its batch along, again and again.
    def spoil(vcon: Vcon, _context: Any) -> Vcon:
        vcon.add_analysis({"type": "bad", "body": content})
        return vcon

    def spoil_quietly(vcon: Vcon, _context: Any) -> Vcon:
        vcon.data["subject"] = content
        return vcon

    for run in (spoil, spoil_quietly):
        item, outcome = stage.run(link("a", run))
        assert outcome.kind == "rejected"
        assert "cannot be written as JSON" in outcome.reason
        assert not item.changed


def test_an_envelope_goes_through_untouched(stage: Stage) -> None:
    text = b'{"payload": "e30", "signatures": [{"header": {"uuid": "u1"}}]}'
    item, outcome = stage.run(link("a", nothing), text=text)
    assert outcome.kind == "done"
    assert item.body is item.text
    _, outcome = stage.run(link("a", tag), text=text)
    assert (outcome.kind, outcome.link) == ("rejected", "a")


def test_a_link_cannot_hand_on_the_envelope_of_another_vcon(stage: Stage) -> None:
    for uuid, kind in ((b"u1", "done"), (b"u2", "rejected")):
        _, outcome = stage.run(link("a", lambda *_, uuid=uuid: Vcon.parse(JWS % uuid)))
        assert outcome.kind == kind


# ---- how a run ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (Retry(7.5, "busy"), "retry", "busy"),
        (Rejected("never"), "rejected", "never"),
        (Cancelled("enough"), "cancelled", "enough"),
        (StartAnew(), "anew", ""),
        (Lost(), "lost", ""),
        (ValueError("odd"), "failed", "odd"),
        (KeyError(), "failed", "KeyError"),
        (SystemExit(3), "failed", "3"),
        (KeyboardInterrupt(), "failed", "KeyboardInterrupt"),
        (GeneratorExit(), "failed", "GeneratorExit"),
        (MemoryError(), "failed", "MemoryError"),
    ],
)
def test_nothing_that_a_link_raises_escapes(
    stage: Stage, error: BaseException, kind: str, reason: str
) -> None:
    item, outcome = stage.run(link("a", nothing), link("b", raises(error)))
    assert (outcome.kind, outcome.reason, outcome.link) == (kind, reason, "b")
    assert item.progress.links == ["a"]
    if kind == "failed":
        assert "raise error" in outcome.traceback
        assert outcome.error
    if kind == "retry":
        assert outcome.after_s == 7.5


def test_a_link_that_recurses_without_end_is_a_failed_attempt(stage: Stage) -> None:
    def recurse(vcon: Vcon, context: Any) -> Vcon:
        return recurse(vcon, context)

    _, outcome = stage.run(link("a", recurse))
    assert (outcome.kind, outcome.error) == ("failed", "RecursionError")
    assert len(outcome.traceback) <= 8000


def test_a_secret_that_a_traceback_is_cut_in_does_not_show_its_end(stage: Stage) -> None:
    text = "redis://u:" + "pa55" * 3000 + "@h"
    _, outcome = stage.run(link("a", raises(ValueError(text))))
    assert "pa55" not in outcome.traceback
    assert outcome.traceback.endswith("ValueError: redis://u:***@h\n")


@pytest.mark.parametrize("error", [ValueError, Rejected, lambda text: Retry(reason=text)])
def test_what_a_link_raises_shows_no_secret_of_its_options(stage: Stage, error: Any) -> None:
    options = {"api_key": SecretStr("k3y-of-ours"), "headers": {"X-Id": SecretStr("0ther-one")}}
    failing = link("a", raises(error("refused: k3y-of-ours, 0ther-one")))
    _, outcome = stage.run(replace(failing, options=options))
    assert outcome.reason == "refused: ***, ***"
    assert "k3y-of-ours" not in outcome.traceback


def test_a_name_of_an_error_says_where_it_is_from(stage: Stage) -> None:
    _, outcome = stage.run(link("a", raises(orjson.JSONDecodeError("x", "y", 0))))
    assert outcome.error.endswith("JSONDecodeError")
    assert "." in outcome.error


@pytest.mark.parametrize(
    "run",
    [nothing, tag, lambda _vcon, _context: None, raises(ValueError()), raises(Retry())],
)
def test_no_time_limit_runs_on_once_the_links_are_done(
    stage: Stage, run: Callable[[Vcon, Any], Vcon | None]
) -> None:
    # Redis was away for 90 s, and the worker was killed for the hard limit of a link long done.
    phases: list[Phase] = []

    def look(vcon: Vcon, _context: Any) -> Vcon:
        phases.append(stage.shown.phase)
        return vcon

    limited = {"hard_timeout_s": 2}
    stage.run(link("a", look, hard_timeout_s=1.5), link("b", run), config=limited)
    assert phases == [Phase.RUNNING]
    assert stage.shown.phase is Phase.STORING


def test_the_page_shows_which_link_runs_and_its_limits(stage: Stage) -> None:
    shown: list[StatusItem] = []

    def look(vcon: Vcon, _context: Any) -> Vcon:
        shown.append(stage.shown)
        return vcon

    stage.run(link("a", look, hard_timeout_s=1.5), link("b", look), config={"hard_timeout_s": 2})
    assert [(one.link, one.limit_s, one.chain_limit_s) for one in shown] == [
        ("a", 1.5, 2.0),
        ("b", 0.0, 2.0),
    ]
    assert shown[0].link_run != shown[1].link_run
    assert shown[0].chain_run == shown[1].chain_run


def test_the_soft_limit_is_the_nearer_of_link_and_chain(stage: Stage) -> None:
    left: list[float | None] = []

    def look(vcon: Vcon, context: Any) -> Vcon:
        left.append(context.remaining_s())
        return vcon

    stage.run(link("a", look))
    stage.run(link("a", look, soft_timeout_s=50), config={"soft_timeout_s": 100})
    stage.run(link("a", look, soft_timeout_s=200), config={"soft_timeout_s": 100})
    stage.run(link("a", look, soft_timeout_s=1e-9))
    assert left[0] is None
    assert left[1] is not None
    assert 49 < left[1] <= 50
    assert left[2] is not None
    assert 99 < left[2] <= 100
    assert left[3] == 0.0


def test_the_attempt_counts_the_runs_of_this_link_that_came_to_nothing(stage: Stage) -> None:
    seen: list[tuple[str, int]] = []

    def look(vcon: Vcon, context: Any) -> Vcon:
        seen.append((context.link, context.attempt))
        return vcon

    stage.run(link("a", look))
    progress = Progress(attempts=4, runs={"a": 4, "b": 1})
    stage.run(link("a", look), link("b", look), link("c", look), progress=progress)
    assert seen == [("a", 1), ("a", 5), ("b", 2), ("c", 1)]


def test_a_link_knows_its_last_attempt(stage: Stage) -> None:
    """Only failures count against the chain's retries, not attempts that asked for later."""
    seen: list[bool] = []

    def look(vcon: Vcon, context: Any) -> Vcon:
        seen.append(context.last_attempt)
        return vcon

    for failures in (0, 1, 2):
        progress = Progress(attempts=9, failures=failures)
        stage.run(link("a", look), progress=progress, config={"retries": 2})
    assert seen == [False, False, True]


# ---- cancelling ----------------------------------------------------------------------------------


def test_a_cancelled_item_ends_at_the_next_edge(stage: Stage) -> None:
    def cancel(vcon: Vcon, _context: Any) -> Vcon:
        stage.cancelled = True
        return vcon

    item, outcome = stage.run(link("a", cancel), link("b", raises(ValueError("not run"))))
    assert outcome.kind == "cancelled"
    assert item.progress.links == ["a"]


def test_a_long_link_learns_of_it_when_it_asks(stage: Stage) -> None:
    def ask(_vcon: Vcon, context: Any) -> Vcon:
        context.check_cancelled()
        stage.cancelled = True
        context.check_cancelled()
        raise AssertionError("it went on")

    _, outcome = stage.run(link("a", ask))
    assert (outcome.kind, outcome.link) == ("cancelled", "a")


# ---- checkpoints and effects ---------------------------------------------------------------------


def test_a_costly_link_is_saved_as_done(stage: Stage) -> None:
    stage.run(link("a", tag, costly=True), link("b", nothing), link("c", nothing))
    [(body, links, _)] = stage.saved
    assert links == ["a"]
    assert b"seen:yes" in body


def test_the_last_link_needs_no_checkpoint(stage: Stage) -> None:
    stage.run(link("a", nothing), link("b", tag, costly=True))
    assert stage.saved == []


def test_a_checkpoint_inside_a_link_does_not_count_it_as_done(stage: Stage) -> None:
    def half(vcon: Vcon, context: Any) -> Vcon:
        vcon.add_tag("half", "1")
        context.checkpoint()
        vcon.data["subject"] = "whole"
        return vcon

    item, _ = stage.run(link("a", nothing), link("b", half))
    [(body, links, _)] = stage.saved
    assert links == ["a"]
    assert b"half:1" in body
    assert b"whole" not in body
    assert orjson.loads(item.body)["subject"] == "whole"
    assert item.text == body


def test_what_json_cannot_hold_ends_the_link_at_its_checkpoint(stage: Stage) -> None:
    def spoil(vcon: Vcon, context: Any) -> Vcon:
        vcon.add_tag("paid", "1")
        vcon.data["subject"] = object()
        context.checkpoint()
        return vcon

    _, outcome = stage.run(link("a", spoil))
    assert (outcome.kind, outcome.link) == ("rejected", "a")
    assert stage.saved == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StartAnew(), "anew"),
        (Lost(), "lost"),
        (Retry(30, "a hash"), "retry"),
        (Rejected("both changed it"), "rejected"),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_a_checkpoint_that_cannot_be_made_ends_the_run(
    stage: Stage, error: BaseException, kind: str, own: bool
) -> None:
    # A Retry from a costly link's checkpoint counted as a failed attempt of the link.
    def refuse(_item: Item) -> None:
        raise error

    stage.at_checkpoint = refuse

    def ask(vcon: Vcon, context: Any) -> Vcon:
        context.checkpoint()
        return vcon

    first = link("a", ask) if own else link("a", tag, costly=True)
    _, outcome = stage.run(first, link("b", raises(ValueError("not run"))))
    assert (outcome.kind, outcome.link) == (kind, "a")


@pytest.mark.parametrize(("error", "kind"), [(StartAnew(), "anew"), (Lost(), "lost")])
def test_a_link_that_catches_everything_does_not_go_on_with_an_item_that_ended(
    stage: Stage, error: BaseException, kind: str
) -> None:
    # Started from the newer document it overwrote that with its own, older one.
    def refuse(_item: Item) -> None:
        raise error

    stage.at_checkpoint = refuse

    def careless(vcon: Vcon, context: Any) -> Vcon:
        try:
            context.checkpoint()
        except Exception:  # noqa: BLE001 - that is the point
            vcon.add_tag("went", "on")
        return vcon

    _, outcome = stage.run(link("a", careless))
    assert outcome.kind == kind


def test_effects_belong_to_the_item_once_their_link_is_done(stage: Stage) -> None:
    # A push that a checkpoint had saved was asked for again when the link was run again.
    def ask(vcon: Vcon, context: Any) -> Vcon:
        context.push("one")
        context.push("two", "u9")
        context.expire(60)
        context.checkpoint()
        return vcon

    item, _ = stage.run(link("a", ask), link("b", nothing))
    assert [pushes for _, _, pushes in stage.saved] == [[]]
    assert item.progress.pushes == [("one", "u1"), ("two", "u9")]
    assert item.progress.expire_s == 60


@pytest.mark.parametrize("name", ["conserver:hosts", "DLQ:calls", "", "two\nlines"])
def test_a_link_pushes_to_no_list_of_the_queues_own(stage: Stage, name: str) -> None:
    """A list at conserver:hosts would end all service; the link's author is told."""

    def ask(vcon: Vcon, context: Any) -> Vcon:
        context.push(name)
        return vcon

    item, outcome = stage.run(link("a", ask))
    assert (outcome.kind, outcome.error) == ("failed", "ValueError")
    assert "the name of a list must" in outcome.reason
    assert item.progress.pushes == []


def test_a_link_that_filters_has_its_effects_and_one_that_fails_has_none(stage: Stage) -> None:
    def route_away(_vcon: Vcon, context: Any) -> None:
        context.push("elsewhere")

    def fail(_vcon: Vcon, context: Any) -> Vcon:
        context.push("nowhere")
        raise ValueError

    item, _ = stage.run(link("a", route_away))
    assert item.progress.pushes == [("elsewhere", "u1")]
    item, _ = stage.run(link("a", fail))
    assert item.progress.pushes == []


# ---- documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "what", "text", "words"),
    [
        (b"u1", "missing", b"", "vcon:u1 does not exist"),
        (b"u1", "type:hash vcon:u1", b"", "vcon:u1 is a Redis hash"),
        (b"u1", "oversized", b"", "larger than CONSERVER_MAX_DOCUMENT_BYTES"),
        (b"u1", "stored", b"", "vcon:u1 holds an empty string"),
        (b"", "missing", b"", "empty"),
        (b"  ", "missing", b"", "empty"),
        (b"null", "missing", b"", "neither a uuid nor a vCon"),
        (b"[]", "missing", b"", "neither a uuid nor a vCon"),
        (b"17", "missing", b"", "neither a uuid nor a vCon"),
        (b"\xff\xfe", "missing", b"", "neither a uuid nor a vCon"),
        (b"u1", "text", b"{", "not JSON"),
        (b"u1", "text", b"[]", "a JSON array"),
        (b"u1", "text", b"{}", "no uuid"),
        (b"u1", "text", document("u2"), "another vCon: u2"),
        # uuid-1: an envelope that names its uuid is checked like any other.
        (b"u1", "text", JWS % b"u2", "another vCon: u2"),
        (b"u1", "text", b'{"ciphertext": "", "unprotected": {"uuid": "u2"}}', "another vCon: u2"),
        (b"u1", "text", b'{"uuid": "u1", "dialog": {}}', "'dialog'"),
        (b"{}", "inline", b"{}", "no uuid"),
        (b"{", "inline", b"{", "not JSON"),
        (b"u1", "text", document("u1", critical=["x"]), "unknown here: x"),
    ],
)
def test_what_cannot_be_processed_is_rejected_with_its_own_reason(
    stage: Stage, payload: bytes, what: str, text: bytes, words: str
) -> None:
    item = stage.item(link("a", raises(ValueError("not run"))), payload=payload, what=what)
    item.text = text
    stage.runner.run(item)
    assert item.outcome is not None
    assert item.outcome.kind == "rejected"
    assert words in item.outcome.reason


def test_a_whole_document_brings_its_uuid(stage: Stage) -> None:
    item, outcome = stage.run(link("a", nothing), what="inline")
    assert (item.uuid, outcome.kind) == ("u1", "done")


def test_case_of_a_pushed_uuid_does_not_matter(stage: Stage) -> None:
    item, outcome = stage.run(text=document("ABC-1"), payload=b"abc-1")
    assert (item.uuid, outcome.kind) == ("abc-1", "done")


@pytest.mark.parametrize("payload", [b"../../etc/passwd", b"a/b", b"a b", b"\xff"])
def test_an_envelope_under_an_unusable_key_is_rejected(stage: Stage, payload: bytes) -> None:
    # It names no uuid that could differ; its key became a path in storages.
    text = b'{"ciphertext": "x", "recipients": []}'
    _, outcome = stage.run(text=text, payload=payload)
    assert outcome.kind == "rejected"
    assert "cannot serve as a uuid" in outcome.reason


def test_extensions_that_a_chain_knows_may_be_critical(stage: Stage) -> None:
    text = document("u1", critical=["x"])
    _, outcome = stage.run(text=text, config={"supported_extensions": ["x"]})
    assert outcome.kind == "done"
