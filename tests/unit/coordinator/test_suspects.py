"""Which worker is ordered to become empty for a suspect."""

from __future__ import annotations

import pytest

from conserver.coordinator.suspects import choose


@pytest.mark.parametrize(
    ("held", "ordered", "chosen"),
    [
        ({}, None, None),
        ({1: 3, 2: 1, 3: 2}, None, 2),
        ({1: 3, 2: 0}, None, None),
        ({1: 3, 2: 2}, 1, 1),
        ({1: 3, 2: 2}, 7, 2),
        ({2: 2, 1: 2}, None, 1),
    ],
)
def test_the_one_with_the_fewest_items_finishes_first_and_stays_it(
    held: dict[int, int], ordered: int | None, chosen: int | None
) -> None:
    assert choose(held, ordered) == chosen
