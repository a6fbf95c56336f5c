"""The key schema of conserver/queue/__init__.py is what Python and the scripts use."""

from __future__ import annotations

import ast
import re
from importlib import resources

import pytest

import conserver.queue
from conserver.queue import keys, wrong_type

FOLDER = resources.files("conserver.queue")
ROW = re.compile(r"^    (\S+)  +(list|zset|hash|set|string|channel) ", re.MULTILINE)
TYPES = {"sorted set": "zset", "channel": "channel"}
# A field of a hash, and a key of vcon-server.
NO_KEYS = {"paused", "recycle", "reload", "trace_context"}


def schema() -> dict[str, str]:
    """How each key begins -> its type."""
    return {re.split("[<]", name)[0]: kind for name, kind in ROW.findall(conserver.queue.__doc__)}


def functions() -> list[ast.FunctionDef]:
    """The functions of keys.py that make the name of a key."""
    tree = ast.parse((FOLDER / "keys.py").read_text())
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [node for node in found if node.name not in NO_KEYS]


@pytest.mark.parametrize("function", functions(), ids=lambda node: node.name)
def test_a_key_has_the_type_that_the_schema_says(function: ast.FunctionDef) -> None:
    name = getattr(keys, function.name)("")
    said = (ast.get_docstring(function) or "").partition(":")[0].lower()
    wanted = schema()[name]
    assert wanted in {TYPES.get(kind, kind) for kind in said.split(" or ")}


def test_constants_are_in_the_schema() -> None:
    constants = {value for value in vars(keys).values() if str(value).startswith("conserver:")}
    assert len(constants) > 5
    assert constants <= schema().keys()


def test_a_key_of_another_type_is_told_with_the_type_of_the_schema() -> None:
    table = schema()
    assert {name: table[name] for name in wrong_type.KINDS} == wrong_type.KINDS


def test_the_scripts_use_no_other_key() -> None:
    used = set()
    for script in FOLDER.iterdir():
        if script.name.endswith(".lua"):
            code = re.sub("--.*", "", script.read_text())
            used |= set(re.findall(r"'((?:conserver|vcon|DLQ):[a-z]*:?)", code))
    assert len(used) > 10
    # open() deletes it, and nobody makes it.
    assert used - schema().keys() == {"conserver:nothing"}
