"""Which tests share a process when pytest-xdist runs them in several (scripts/test does).

What one process has started costs the next one as much again: an Elasticsearch takes ten seconds of
CPU. Tests that use such a fixture of the session or of their module therefore run in one process,
one after another. All other tests go, one by one, to whichever process is free.

The queue begins with the tests that mostly wait (tests/conftest.py has the order), and ends with
those that compute. Every third process takes from its end, so that at any time some tests compute
while others wait.

The groups are read from the tests' names, since these are all that the controlling process knows
of them. (`--dist loadgroup` would put a mark into the names, which pytest 9.2 ignores.)
"""

from __future__ import annotations

from typing import Any

GROUPS = {
    # The first one starts the three databases of `stored_scene`; each finds them up and well.
    "tests/fault/test_storage_away.py": "stored scenes",
    "tests/fault/test_items.py::test_same_uuid_pushed_twice_is_two_items": "stored scenes",
    "tests/fault/test_items.py::test_two_chains_on_one_vcon": "stored scenes",
    "tests/fault/test_redis_away.py::test_connection_cut_at_a_script": "stored scenes",
    "tests/fault/test_resume.py::test_host_killed_whole_with_storages_owed": "stored scenes",
    "tests/fault/test_resume.py::test_killed_with_one_storage_owed_runs_no_link_again": (
        "stored scenes"
    ),
    "tests/fault/test_start_and_stop.py::test_start_while_a_storage_is_away": "stored scenes",
    # They share an Elasticsearch that asks for a password.
    "tests/integration/test_elasticsearch.py::test_user_and_password": "password",
    "tests/integration/test_servers.py::test_elasticsearch_asks_for_its_password": "password",
    # Every file is parsed once.
    "tests/test_tidy.py": "tidy",
    # They share what takes seconds to start: a browser, a daemon that hears, a Prometheus, readers
    # or a transcriber with their models.
    "tests/browser/test_item.py": "browser",
    "tests/browser/test_pages.py": "browser",
    "tests/process/test_audio.py": "audio",
    "tests/integration/test_monitoring.py": "monitoring",
    "tests/integration/test_documents.py": "documents",
    "tests/integration/test_speech.py": "speech",
    "tests/integration/test_speech_quality.py": "speech, real",
    "tests/unit/media/extraction/test_client.py": "page readers",
}


def group_of(nodeid: str) -> str:
    """The group of a test; its own name if it is in none."""
    name = nodeid.partition("[")[0]
    return GROUPS.get(name) or GROUPS.get(name.partition("::")[0]) or nodeid


def scheduler(config: Any, log: Any) -> Any:
    """pytest-xdist's scheduler that keeps groups together, with these groups."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):  # type: ignore[misc]
        """Hands out one group after another, the largest first; or, to every third process, from
        the end.
        """

        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            if int(node.gateway.id.removeprefix("gw")) % 3 == 2:
                self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
            super()._assign_work_unit(node)

    return Scheduler(config, log)
