"""routes.py: which chain serves a list, and in what order lists are claimed from."""

from __future__ import annotations

from collections import Counter
from typing import Any

from conserver.config.model import ChainConfig, Config, LinkConfig, StorageConfig
from conserver.plugins.loader import Plugins
from conserver.worker.routes import Routes
from tests.workers import link, nothing, storage


def routes(**chains: dict[str, Any]) -> Routes:
    links, storages = [link("a", nothing), link("b", nothing)], [storage("x"), storage("y")]
    config = Config(
        links={one.name: LinkConfig(module="test") for one in links},
        storages={one.name: StorageConfig(module="test") for one in storages},
        chains={
            name: ChainConfig.model_validate({"ingress_lists": [name], **chain})
            for name, chain in chains.items()
        },
    )
    plugins = Plugins({one.name: one for one in links}, {one.name: one for one in storages})
    return Routes(config, plugins, 1 << 20)


def test_lists_are_served_in_the_order_of_the_file() -> None:
    made = routes(one={"ingress_lists": ["c", "a"]}, two={"ingress_lists": ["b"]})
    assert made.lists == ["c", "a", "b"]
    assert [(name, route.name) for name, route in made.in_order()] == [
        ("c", "one"),
        ("a", "one"),
        ("b", "two"),
    ]
    assert made.of("a").name == "one"


def test_a_disabled_chain_is_not_served() -> None:
    made = routes(one={}, two={"enabled": False})
    assert made.lists == ["one"]
    assert [route.name for route in made.all] == ["one"]


def test_a_route_has_its_links_in_order_and_each_storage_once() -> None:
    made = routes(
        one={
            "links": ["b", "a", "b"],
            "storages": ["y", "x", "y"],
            "timeout": 3,
            "hard_timeout_s": 5,
        }
    )
    route = made.of("one")
    assert route.names == ("b", "a", "b")
    assert [one.name for one in route.links] == ["b", "a", "b"]
    assert route.storages == ("y", "x")
    assert (route.soft_s, route.hard_s) == (3, 5)


def test_equal_weights_are_strict_order() -> None:
    made = routes(one={"weight": 7}, two={"weight": 7})
    assert {next(made.in_order())[0] for _ in range(50)} == {"one"}


def test_other_weights_draw_the_first_in_proportion() -> None:
    made = routes(heavy={"weight": 9}, light={"weight": 1})
    first = Counter(next(made.in_order())[0] for _ in range(4000))
    # 3600 are expected, and 19 are one standard deviation.
    assert 3450 < first["heavy"] < 3750
    assert all(len(list(made.in_order())) == 2 for _ in range(10)), "each list once"


def test_lists_of_one_chain_are_drawn_by_their_weights() -> None:
    """A flood on one list delays another one by its share: the other comes first that often."""
    made = routes(one={"ingress_lists": ["low", "high", "plain"], "list_weights": {"high": 8}})
    first = Counter(next(iter(made.in_order()))[0] for _ in range(4000))
    assert 0.75 < first["high"] / 4000 < 0.85
    assert min(first["low"], first["plain"]) > 4000 * 0.07


def test_the_weights_of_other_chains_leave_strict_lists_in_their_order() -> None:
    made = routes(
        strict={"ingress_lists": ["urgent", "plain", "urgent"]},
        shared={"ingress_lists": ["low", "high"], "list_weights": {"high": 8}},
        heavy={"weight": 5},
    )
    for _ in range(200):
        found = [name for name, _ in made.in_order()]
        assert sorted(found) == ["heavy", "high", "low", "plain", "urgent"]
        assert found.index("urgent") < found.index("plain")
        assert all(made.of(name) is route for name, route in made.in_order())
    first = Counter(next(made.in_order())[0] for _ in range(4000))
    assert first["heavy"] > 4000 * 0.2, "chains still take turns by their weight"
