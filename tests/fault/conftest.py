"""Fault tests run against a town of their own: a Redis with AOF, storages behind proxies, hosts.

The storages are shared by all tests of the session (each test counts only its own vCons) and are
running and well at the start of every test, whatever the one before did to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from chaosrun.places import PLACES, Place
from chaosrun.town import Town
from servers import Missing, start_all

from tests.conftest import absent
from tests.fault.scene import Scene
from tests.parallel import group_of

TIMEOUT_S = 3.0
"""After so long a storage that does not answer counts as away."""


@pytest.fixture(scope="session")
def shared_places() -> Iterator[dict[str, Place]]:
    """PostgreSQL, S3 and Elasticsearch of this run alone."""
    places = {name: place(TIMEOUT_S) for name, place in PLACES.items()}
    with ExitStack() as stack:
        for place in places.values():
            stack.callback(place.server.close)
        try:
            start_all([place.server for place in places.values()])
        except Missing as error:
            absent(str(error))
        for place in places.values():
            place.prepare()
        yield places


@pytest.fixture
def places(request: pytest.FixtureRequest, shared_places: dict[str, Place]) -> dict[str, Place]:
    """The same, all of them up."""
    nodeid = request.node.nodeid
    assert group_of(nodeid) != nodeid, "a test with these servers has a line in tests/parallel.py"
    for place in shared_places.values():
        if place.server.alive:
            place.server.resume()
    start_all([place.server for place in shared_places.values()])
    return shared_places


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A town without storages, for what goes wrong between Conserver and Redis."""
    with Town(tmp_path, []) as town:
        yield Scene(town)


@pytest.fixture
def stored_scene(tmp_path: Path, places: dict[str, Place]) -> Iterator[Scene]:
    """A town with all three storages."""
    with Town(tmp_path, places.values()) as town:
        yield Scene(town)


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """An operator's connection to the town's Redis."""
    name = "stored_scene" if "stored_scene" in request.fixturenames else "scene"
    scene: Scene = request.getfixturevalue(name)
    with scene.town.client() as client:
        yield client
