"""Tools for tests of links and storages. `pip install 'conserver[testing]'` brings what they need.

    links            run_link: one run of a link on a vCon, without any server
    storages         StorageContract: what every storage promises, as tests to derive from
    storage_places   StoragePlace: a storage and a place of its own; documents to save there
    searching        SearchContract: what a storage promises that can be searched
    plugin           the fixture `conserver`: a worker on a Redis in memory, from the push of a vCon
                     to storages, egress lists and dead letters (harness)
    http_server      serving: a scripted HTTP server for what makes requests
    redis_server     FakeRedisServer: fakeredis behind a port

docs/writing-links.md and docs/writing-storages.md use them. No other module of Conserver imports
this package.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "conserver.testing.searching",
    "conserver.testing.storage_places",
    "conserver.testing.storages",
)
