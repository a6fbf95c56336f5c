"""Lists that share by weight: how much of a flood is claimed before what another list holds.

Counted in items and not in time: the claims are those of a worker, in the order that it draws.
"""

from __future__ import annotations

import pytest

from conserver.config.model import ChainConfig, Config
from conserver.plugins.loader import Plugins
from conserver.queue import calls
from conserver.queue.calls import ClaimLimits, Demand
from conserver.worker.routes import Routes
from tests.queues import Consumer, Queue

FEW, MOST = 240, 4
"""Items of the list that is not flooded, and items of one claim."""


def flood_before_the_few(queue: Queue, weights: dict[str, int]) -> int:
    """How many items of `flood` a worker claims until it has claimed all of `few`."""
    lists = ["flood", "few"]
    chain = ChainConfig.model_validate({"ingress_lists": lists, "list_weights": weights})
    routes = Routes(Config(chains={"main": chain}), Plugins({}, {}), 1 << 20)
    queue.push("flood", *[f"flood-{number}" for number in range(8 * FEW)])
    queue.push("few", *[f"few-{number}" for number in range(FEW)])
    one = Consumer(queue, lists=tuple(lists))
    limits, left, flood, number = ClaimLimits(most=MOST), FEW, 0, 0
    while left:
        number += 1
        demands = [Demand(name, MOST) for name, _ in routes.in_order()]
        call = calls.claim(one.host, one.id, number, False, demands, limits)
        claim = calls.read_claim(queue.run(call))
        assert claim.items, "a flood leaves no claim empty"
        few = sum(item.payload.startswith(b"few") for item in claim.items)
        left, flood = left - few, flood + len(claim.items) - few
    return flood


@pytest.mark.parametrize(("flood", "few"), [(1, 1), (3, 1), (1, 3)])
def test_a_flood_delays_another_list_by_its_share_at_most(
    queue: Queue, flood: int, few: int
) -> None:
    """Of each claim that begins with the flood, `few` has few / flood on average.

    The claims that it takes are drawn: their number is negatively binomial. Beyond six standard
    deviations is one run in hundreds of millions.
    """
    claims, share = FEW / MOST, few / (flood + few)
    deviation = (claims * (1 - share)) ** 0.5 / share
    most = MOST * (claims * flood / few + 6 * deviation)
    assert most < 8 * FEW, "the flood is not over before"
    assert flood_before_the_few(queue, {"flood": flood, "few": few}) <= most


def test_without_weights_the_first_list_comes_first(queue: Queue) -> None:
    assert flood_before_the_few(queue, {}) == 8 * FEW


def test_a_list_of_no_waiting_items_costs_the_others_nothing(queue: Queue) -> None:
    """A weight is a share among those that wait: what an empty list does not use goes to others."""
    chain = {"ingress_lists": ["empty", "q"], "list_weights": {"empty": 99, "q": 1}}
    config = Config(chains={"main": ChainConfig.model_validate(chain)})
    routes = Routes(config, Plugins({}, {}), 1 << 20)
    queue.push("q", *[f"u{number}" for number in range(20)])
    one = Consumer(queue, lists=("empty", "q"))
    for number in range(1, 6):
        demands = [Demand(name, MOST) for name, _ in routes.in_order()]
        call = calls.claim(one.host, one.id, number, False, demands, ClaimLimits(most=MOST))
        assert len(calls.read_claim(queue.run(call)).items) == MOST
