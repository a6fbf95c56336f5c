"""run_link: what its result says of everything that a link can do."""

from __future__ import annotations

from typing import Any

import pytest

from conserver.errors import ConfigError, Rejected, Retry
from conserver.links import LinkContext, tag
from conserver.testing.links import UUID, make_vcon, run_link
from conserver.vcon.document import Vcon

TAGS = {"tags": ["a:b"]}


def subject(vcon: Vcon, _options: Any, _context: LinkContext) -> Vcon:
    vcon.data["subject"] = "changed"
    return vcon


@pytest.mark.parametrize(
    "given",
    [{"subject": "x"}, b'{"uuid":"u","subject":"x"}', '{"uuid":"u"}', make_vcon],
)
def test_a_document_is_given_in_any_form(given: Any) -> None:
    result = run_link(subject, given(subject="x") if callable(given) else given)
    assert (result.outcome, result.changed, result.filtered) == ("done", True, False)
    assert result.vcon.data["subject"] == "changed"
    assert result.vcon.uuid in ("u", UUID)


@pytest.mark.parametrize("link", ["links.tag", tag])
@pytest.mark.parametrize(
    "options", [{"tags": ["a:b"]}, tag.Options.model_validate({"tags": ["a:b"]})]
)
def test_a_link_and_its_options_are_named_or_given(link: Any, options: Any) -> None:
    vcon = make_vcon()
    assert run_link(link, vcon, options).changed
    assert not run_link(link, vcon, options).changed, "the same vCon was given to a second run"
    assert vcon.tags == {"a": "b"}


def test_wrong_options_and_names_are_those_of_a_configuration() -> None:
    with pytest.raises(ConfigError, match=r"options\.tag: is not known here"):
        run_link("links.tag", make_vcon(), {"tag": "a"})
    with pytest.raises(ConfigError, match=r"no module `links\.tags`.*links\.tag"):
        run_link("links.tags", make_vcon())


def test_what_no_worker_gives_to_a_link_is_rejected() -> None:
    result = run_link(subject, {"critical": ["unheard-of"], "extensions": ["unheard-of"]})
    assert (result.outcome, result.changed) == ("rejected", False)
    assert "critical" in str(result.rejected)
    with pytest.raises(Rejected, match="not JSON"):
        run_link(subject, b"{")


def test_what_it_asks_of_its_context_is_in_the_result() -> None:
    def asks(vcon: Vcon, _options: Any, context: LinkContext) -> Vcon:
        vcon.add_tag("paid", "yes")
        context.checkpoint()
        vcon.add_tag("more", "yes")
        context.push("other")
        context.push("audit", "u-2")
        context.expire(60)
        context.progress(1, 2, "pages")
        context.log.info("looked_up", found=3)
        return vcon

    result = run_link(asks, make_vcon())
    assert [Vcon.parse(saved).tags for saved in result.checkpoints] == [{"paid": "yes"}]
    assert result.pushes == [("other", UUID), ("audit", "u-2")]
    assert (result.expiry_s, result.progress) == (60, (1, 2, "pages"))
    (line,) = result.logged
    assert (line["log_level"], line["event"], line["found"]) == ("info", "looked_up", 3)


def test_the_context_says_what_the_test_wants() -> None:
    seen: list[Any] = []

    def looks(vcon: Vcon, _options: Any, context: LinkContext) -> Vcon:
        seen.append((context.attempt, context.last_attempt, context.remaining_s()))
        return vcon

    run_link(looks, make_vcon())
    run_link(looks, make_vcon(), attempt=3, last_attempt=True, soft_timeout_s=60)
    assert seen[0] == (1, False, None)
    attempt, last, remaining_s = seen[1]
    assert (attempt, last) == (3, True)
    assert 50 < remaining_s <= 60


def test_what_it_raises_is_in_the_result_or_passes() -> None:
    def raising(error: BaseException) -> Any:
        def run(vcon: Vcon, _options: Any, context: LinkContext) -> Vcon:
            context.push("lost with the attempt")
            raise error

        return run

    later = run_link(raising(Retry(7, "busy")), make_vcon())
    assert later.outcome == "retry"
    assert later.retry is not None
    assert (later.retry.after_s, str(later.retry), later.pushes) == (7, "busy", [])
    never = run_link(raising(Rejected("no audio")), make_vcon())
    assert (never.outcome, str(never.rejected)) == ("rejected", "no audio")
    with pytest.raises(ZeroDivisionError, match="bug"):
        run_link(raising(ZeroDivisionError("bug")), make_vcon())


def test_a_cancelled_link_ends_where_it_looks() -> None:
    looks = 0

    def patient(vcon: Vcon, _options: Any, context: LinkContext) -> Vcon:
        nonlocal looks
        for _ in range(5):
            context.check_cancelled()
            looks += 1
        return vcon

    assert run_link(patient, make_vcon(), cancel_after=2).outcome == "cancelled"
    assert looks == 2
    assert run_link(patient, make_vcon()).outcome == "done"


def test_none_filters_and_anything_else_is_rejected() -> None:
    def returning(answer: Any) -> Any:
        return lambda *_: answer

    assert run_link(returning(None), make_vcon()).filtered
    assert "returned int" in str(run_link(returning(7), make_vcon()).rejected)
    other = Vcon.parse(b'{"uuid":"another"}')
    assert "another vCon" in str(run_link(returning(other), make_vcon()).rejected)


def test_what_json_cannot_hold_is_rejected() -> None:
    def puts(vcon: Vcon, _options: Any, _context: LinkContext) -> Vcon:
        vcon.data["subject"] = object()
        return vcon

    result = run_link(puts, make_vcon())
    assert (result.outcome, result.changed) == ("rejected", True)
