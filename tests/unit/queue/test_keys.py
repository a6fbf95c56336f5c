"""keys.py names every key that scripts and modules use, each once."""

from __future__ import annotations

import ast
import re
from importlib import resources
from itertools import permutations
from pathlib import Path

import pytest

import conserver
from conserver.config import notifications
from conserver.queue import keys
from conserver.queue.wrong_type import kind_of

FOLDER = resources.files("conserver.queue")
BEGINNINGS = {key.beginning for key in keys.SCHEMA}


def test_the_type_of_a_key_follows_from_how_it_begins() -> None:
    assert len({key.pattern for key in keys.SCHEMA}) == len(keys.SCHEMA) > 30
    for one, other in permutations(keys.SCHEMA, 2):
        if one.beginning != one.pattern and one.beginning:
            assert not other.pattern.startswith(one.beginning) or other.kind == one.kind


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (keys.parked("calls"), "zset"),
        (keys.job("1"), "hash"),
        (keys.JOBS, "zset"),
        (keys.HOSTS, "set"),
        (keys.host("1"), "hash"),
        (keys.document("1"), "string"),
        ("calls", "list"),
        ("conserver", "list"),
    ],
)
def test_what_is_no_key_of_ours_is_a_list(key: str, kind: str) -> None:
    assert kind_of(key) == kind


def test_the_scripts_use_no_other_key() -> None:
    used = set()
    for script in FOLDER.iterdir():
        if script.name.endswith(".lua"):
            code = re.sub("--.*", "", script.read_text())
            used |= set(re.findall(r"'((?:conserver|vcon|DLQ):[a-z]*:?)", code))
    assert len(used) > 10
    # open() deletes it, and nobody makes it.
    assert used - BEGINNINGS == {"conserver:nothing"}


def test_no_module_spells_the_name_of_a_key() -> None:
    """Only the configuration, which imports nothing of the queue, names the notifications."""
    ours = {name for name in BEGINNINGS if name.startswith("conserver:")}
    found = set()
    for path in Path(conserver.__file__).parent.rglob("*.py"):
        if path.name == "keys.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in ours:
                found.add((path.name, node.value))
    assert found == {("notifications.py", notifications.LIST)}
    assert notifications.LIST == keys.NOTIFICATIONS
