"""delay, tag_router, expire_vcon, sampler and jq: the links of a page each."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from conserver.errors import Cancelled, Rejected
from conserver.links import delay, expire_vcon, jq, sampler, tag_router
from conserver.vcon.document import Vcon
from tests import vcons
from tests.unit.links.stage import Context, vcon

# delay


def test_delay_waits_and_touches_nothing() -> None:
    given, began_s = vcon(), time.monotonic()
    assert delay.run(given, delay.Options(seconds=0.1), Context()) is given
    assert 0.1 <= time.monotonic() - began_s < 5
    assert not given.changed


def test_delay_ends_when_the_item_is_cancelled() -> None:
    began_s = time.monotonic()
    with pytest.raises(Cancelled):
        delay.run(vcon(), delay.Options(seconds=600), Context(cancel_after=2))
    assert time.monotonic() - began_s < 5


@pytest.mark.parametrize("seconds", [-1, 3601, float("nan"), float("inf"), "soon", None])
def test_delay_is_bounded(seconds: Any) -> None:
    with pytest.raises(ValidationError):
        delay.Options(seconds=seconds)


# tag_router


def routed(tags: list[str], routes: Any, **options: Any) -> tuple[Vcon | None, list[str]]:
    context = Context()
    given = vcon(attachments=[{"type": "tags", "body": tags}])
    settings = tag_router.Options(tag_routes=routes, **options)
    return tag_router.run(given, settings, context), [target for target, _ in context.pushed]


def test_router_pushes_by_name_and_by_whole_tag() -> None:
    routes = {"urgent": "now", "team:blue": ["blue", "audit"], "team:red": "red"}
    result, targets = routed(["urgent:yes", "team:blue"], routes)
    assert targets == ["now", "blue", "audit"]
    assert result is not None
    assert not result.changed


def test_router_pushes_once_to_each_list() -> None:
    routes = {"a": "same", "b": ["same", "other"], "a:1": "same"}
    assert routed(["a:1", "a:2", "b:1"], routes)[1] == ["same", "other"]


def test_router_without_a_match_pushes_nothing() -> None:
    assert routed(["c:1"], {"a": "x"})[1] == []


def test_router_can_stop_the_chain() -> None:
    assert routed(["a:1"], {"a": "x"}, forward_original=False) == (None, ["x"])
    assert routed([], {"a": "x"}, forward_original=False) == (None, [])


@pytest.mark.parametrize("routes", [{}, {"a": []}, {"a": ""}, {"a": None}, ["a"]])
def test_router_refuses_routes_to_nowhere(routes: Any) -> None:
    with pytest.raises(ValidationError):
        tag_router.Options(tag_routes=routes)


# expire_vcon


def test_expiry_is_asked_for() -> None:
    context = Context()
    assert expire_vcon.run(vcon(), expire_vcon.Options(seconds=60), context) is not None
    assert expire_vcon.Options().seconds == 86_400
    assert context.expiries == [60]


@pytest.mark.parametrize("seconds", [0, -1, 1.5])
def test_expiry_is_a_whole_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ValidationError):
        expire_vcon.Options(seconds=seconds)


# sampler


def chosen(count: int, **options: Any) -> list[str]:
    """Which of so many vCons go through."""
    settings = sampler.Options(**options)
    given = [Vcon.parse(raw) for _, raw in vcons.several(count)]
    return [one.uuid for one in given if sampler.run(one, settings, Context()) is not None]


def test_a_percentage_goes_through() -> None:
    assert chosen(200, value=0) == []
    assert len(chosen(200, value=100)) == 200
    assert 300 < len(chosen(1000, value=40)) < 500


def test_the_same_ones_go_through_each_time_and_others_with_another_seed() -> None:
    assert chosen(200, value=50) == chosen(200, value=50)
    assert chosen(200, value=50, seed=1) != chosen(200, value=50, seed=2)
    assert set(chosen(200, value=20)) < set(chosen(200, value=60))


def test_rate_and_modulo_choose_their_share() -> None:
    assert 550 < len(chosen(1000, method="rate", value=1)) < 710
    assert 200 < len(chosen(1000, method="modulo", value=4)) < 300
    assert len(chosen(50, method="modulo", value=1)) == 50


def test_time_based_lets_all_or_none_through_in_a_second() -> None:
    assert len(chosen(20, method="time_based", value=1)) == 20


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("percentage", -1),
        ("percentage", 101),
        ("percentage", float("nan")),
        ("rate", 0),
        ("modulo", 0),
        ("modulo", 1.5),
        ("time_based", 0),
        ("dice", 1),
    ],
)
def test_sampler_refuses_values_that_mean_nothing(method: Any, value: Any) -> None:
    with pytest.raises(ValidationError):
        sampler.Options(method=method, value=value)


# jq


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        (".", True),
        ('.dialog | any(.type == "text")', True),
        ("[.dialog[]? | select(.duration > 60)] | length > 0", False),
        (".subject", False),
        ("empty", False),
        (".dialog | length - 1", False),
        ('"", true', False),
        (".parties[0].name", True),
    ],
)
def test_jq_filters_by_the_first_result(expression: str, matches: bool) -> None:
    given = vcon(dialog=[{"type": "text"}], parties=[{"name": "Ada"}])
    result = jq.run(given, jq.Options(filter=expression), Context())
    assert (result is given) == matches
    inverse = jq.run(given, jq.Options(filter=expression, forward_matches=False), Context())
    assert (inverse is given) != matches
    assert not given.changed


def test_jq_reads_changes_of_links_before_it() -> None:
    given = vcon()
    given.data["subject"] = "new"
    assert jq.run(given, jq.Options(filter='.subject == "new"'), Context()) is given


def test_jq_refuses_what_is_no_expression() -> None:
    with pytest.raises(ValidationError, match="syntax error"):
        jq.Options(filter="((")


def test_jq_rejects_a_vcon_on_which_it_fails() -> None:
    with pytest.raises(Rejected, match="Cannot index"):
        jq.run(vcon(a=1), jq.Options(filter=".a.b"), Context())


def test_jq_takes_every_real_shape() -> None:
    for shape in vcons.SHAPES:
        given = Vcon.parse(vcons.raw(shape))
        assert jq.run(given, jq.Options(filter="type"), Context()) is given


def test_tags_that_cannot_be_read_are_a_warning_of_the_router() -> None:
    context = Context()
    options = tag_router.Options.model_validate({"tag_routes": {"vip": "vips"}})
    given = vcon(attachments=[{"type": "tags", "body": "vip"}, {"type": "tags", "body": '["vip"]'}])
    tag_router.run(given, options, context)
    assert context.log.at("warning") == [("tags_unreadable", {"attachment": 0})]
    assert context.pushed == [("vips", None)]
