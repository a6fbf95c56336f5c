"""delay, tag_router, expire_vcon, sampler and jq: the links of a page each."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from conserver.links import delay, expire_vcon, jq, sampler, tag_router
from conserver.testing.links import LinkRun, make_vcon, run_link
from tests import vcons

# delay


def test_delay_waits_and_touches_nothing() -> None:
    began_s = time.monotonic()
    result = run_link(delay, make_vcon(), {"seconds": 0.1})
    assert 0.1 <= time.monotonic() - began_s < 60
    assert (result.outcome, result.changed) == ("done", False)


def test_delay_ends_when_the_item_is_cancelled() -> None:
    began_s = time.monotonic()
    assert run_link(delay, make_vcon(), {"seconds": 600}, cancel_after=2).outcome == "cancelled"
    assert time.monotonic() - began_s < 60


@pytest.mark.parametrize("seconds", [-1, 3601, float("nan"), float("inf"), "soon", None])
def test_delay_is_bounded(seconds: Any) -> None:
    with pytest.raises(ValidationError):
        delay.Options(seconds=seconds)


# tag_router


def routed(tags: list[str], routes: Any, **options: Any) -> LinkRun:
    given = make_vcon(attachments=[{"type": "tags", "body": tags}])
    return run_link(tag_router, given, {"tag_routes": routes, **options})


def targets(result: LinkRun) -> list[str]:
    """The lists that it has pushed the vCon on."""
    assert {uuid for _, uuid in result.pushes} <= {result.vcon.uuid}
    return [target for target, _ in result.pushes]


def test_router_pushes_by_name_and_by_whole_tag() -> None:
    routes = {"urgent": "now", "team:blue": ["blue", "audit"], "team:red": "red"}
    result = routed(["urgent:yes", "team:blue"], routes)
    assert targets(result) == ["now", "blue", "audit"]
    assert (result.outcome, result.changed) == ("done", False)


def test_router_pushes_once_to_each_list() -> None:
    routes = {"a": "same", "b": ["same", "other"], "a:1": "same"}
    assert targets(routed(["a:1", "a:2", "b:1"], routes)) == ["same", "other"]


def test_router_without_a_match_pushes_nothing() -> None:
    assert targets(routed(["c:1"], {"a": "x"})) == []


def test_router_can_stop_the_chain() -> None:
    for tags, lists in ((["a:1"], ["x"]), ([], [])):
        result = routed(tags, {"a": "x"}, forward_original=False)
        assert (result.filtered, targets(result)) == (True, lists)


@pytest.mark.parametrize("routes", [{}, {"a": []}, {"a": ""}, {"a": None}, ["a"]])
def test_router_refuses_routes_to_nowhere(routes: Any) -> None:
    with pytest.raises(ValidationError):
        tag_router.Options(tag_routes=routes)


# expire_vcon


def test_expiry_is_asked_for() -> None:
    assert run_link(expire_vcon, make_vcon(), {"seconds": 60}).expiry_s == 60
    assert run_link(expire_vcon, make_vcon()).expiry_s == 86_400


@pytest.mark.parametrize("seconds", [0, -1, 1.5])
def test_expiry_is_a_whole_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ValidationError):
        expire_vcon.Options(seconds=seconds)


# sampler


def chosen(count: int, **options: Any) -> list[str]:
    """Which of so many vCons go through."""
    given = vcons.several(count)
    return [uuid for uuid, raw in given if not run_link(sampler, raw, options).filtered]


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
    given = make_vcon(dialog=[{"type": "text"}], parties=[{"name": "Ada"}])
    result = run_link(jq, given, {"filter": expression})
    assert result.filtered != matches
    inverse = run_link(jq, given, {"filter": expression, "forward_matches": False})
    assert inverse.filtered == matches
    assert not result.changed
    assert not inverse.changed


def test_jq_reads_changes_of_links_before_it() -> None:
    given = make_vcon()
    given.data["subject"] = "new"
    assert not run_link(jq, given, {"filter": '.subject == "new"'}).filtered


def test_jq_refuses_what_is_no_expression() -> None:
    with pytest.raises(ValidationError, match="syntax error"):
        jq.Options(filter="((")


def test_jq_rejects_a_vcon_on_which_it_fails() -> None:
    result = run_link(jq, make_vcon(a=1), {"filter": ".a.b"})
    assert "Cannot index" in str(result.rejected)


def test_jq_takes_every_real_shape() -> None:
    for shape in vcons.SHAPES:
        assert run_link(jq, vcons.raw(shape), {"filter": "type"}).outcome == "done"


def test_tags_that_cannot_be_read_are_a_warning_of_the_router() -> None:
    given = make_vcon(
        attachments=[{"type": "tags", "body": "vip"}, {"type": "tags", "body": '["vip"]'}]
    )
    result = run_link(tag_router, given, {"tag_routes": {"vip": "vips"}})
    (line,) = result.logged
    assert (line["log_level"], line["event"]) == ("warning", "tags_unreadable")
    assert line["attachment"] == 0
    assert targets(result) == ["vips"]
