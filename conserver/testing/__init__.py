"""Tools for tests of links and storages. `pip install 'conserver[testing]'` installs them.

    links            run_link: runs a link once on a vCon, without any server
    storages         StorageContract: the tests that every storage must pass, as a base class
    storage_places   StoragePlace: a storage's module, and options for an empty place of its own
    searching        SearchContract: the tests that every storage with a search must pass
    plugin           the fixture `conserver` (harness): a worker with a Redis in memory, which
                     takes pushed vCons to storages, egress lists and dead letters
    worker           SteppedWorker: the worker of `conserver`, without threads
    http_server      serving: a scripted HTTP server for links and storages that make requests
    redis_server     FakeRedisServer: fakeredis behind a port

docs/writing-links.md and docs/writing-storages.md show how to use them. No other package of
Conserver imports this one.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "conserver.testing.searching",
    "conserver.testing.storage_places",
    "conserver.testing.storages",
)
