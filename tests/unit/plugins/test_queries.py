"""What a schedule asks a storage is checked before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from conserver.errors import ConfigError
from conserver.plugins import reading

STORAGES = """
  db: {module: storage.sqlite, options: {path: FOLDER/vcons.db}}
  files: {module: storage.file, options: {path: FOLDER/files}}
  words: {module: storage.elasticsearch, options: {url: "http://127.0.0.1:9"}}
"""


def problems(folder: Path, find: str, *, storages: str = STORAGES, enabled: str = "true") -> str:
    """What is wrong with a configuration that has one schedule; "" for nothing."""
    file = folder / "config.yml"
    file.write_text(
        f"storages:{storages.replace('FOLDER', str(folder))}"
        "chains: {a: {ingress_lists: [calls]}}\n"
        "schedules:\n"
        f'  nightly: {{cron: "0 2 * * *", enabled: {enabled}, find: {{list: calls, {find}}}}}\n'
    )
    config = reading.read(str(file), {})
    try:
        reading.load_plugins(config, str(file), prepare=False)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("find", "place", "said"),
    [
        ('storage: files, query: "true"', "find.storage", "no language for queries"),
        ("storage: db, query: {term: {tags: a}}", "find.query", "a condition in SQL"),
        ("storage: words, query: 'tags = 1'", "find.query", "a query of Elasticsearch"),
        ("storage: words, query: {}", "find.query", "must have one entry"),
    ],
)
def test_what_cannot_be_asked_is_told_before(
    tmp_path: Path, find: str, place: str, said: str
) -> None:
    found = problems(tmp_path, find)
    assert f"schedules.nightly.{place}" in found
    assert "line 7" in found or "config.yml" in found
    assert said in found


@pytest.mark.parametrize(
    "find", ['storage: db, query: "true"', "storage: words, query: {term: {tags: a}}"]
)
def test_what_can_be_asked_is_no_problem(tmp_path: Path, find: str) -> None:
    assert problems(tmp_path, find) == ""
    assert not (tmp_path / "vcons.db").exists(), "nothing was opened for that"


def test_a_disabled_schedule_is_not_looked_at(tmp_path: Path) -> None:
    assert problems(tmp_path, 'storage: files, query: "true"', enabled="false") == ""


def test_a_storage_that_only_a_schedule_names_is_checked(tmp_path: Path) -> None:
    storages = "\n  db: {module: storage.sqlite, options: {pth: x}}\n"
    found = problems(tmp_path, 'storage: db, query: "true"', storages=storages)
    assert "storages.db.options.pth" in found
