"""Parses the text of a configuration file into plain data, and finds the lines of its entries.

This module handles YAML, the insertion of environment variables, and line numbers for error
messages. The meaning of the data is defined in model.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from conserver.config.validation import join_path
from conserver.errors import ConfigError, Problem

_DEPTH_MAX = 100
"""The deepest nesting of a file. Far more than people write, far less than Python's stack."""

_VALUES_MAX = 1_000_000
"""The most values of a file, with each alias counted as all that its anchor holds."""

_REFERENCE = re.compile(
    r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{"
)


class _Loader(yaml.CSafeLoader):
    """A YAML loader that reports duplicate names. YAML would silently keep the last of them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.doubled: list[Problem] = []

    def get_single_node(self) -> yaml.Node | None:
        """The document as nodes, checked to be free of cycles, not too deep and not too large."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _check_ends(node, "", (), {})
            self.doubled = list(_doubled(node, "", set()))
        return node


def _doubled(node: yaml.Node, path: str, done: set[int]) -> Iterator[Problem]:
    """A problem for each name that a mapping has more than once."""
    if id(node) in done:
        return
    done.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, list[int]] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                lines.setdefault(str(key.value), []).append(key.start_mark.line + 1)
        for name, found in lines.items():
            if len(found) > 1:
                where = f"in lines {', '.join(map(str, found))}"
                text = f"is there {len(found)} times, {where}"
                yield Problem(join_path(path, [name]), text, "keep one of them")
    for inner, _, value in _inside(node, path):
        yield from _doubled(value, inner, done)


def _check_ends(
    node: yaml.Node, path: str, above: tuple[yaml.Node, ...], done: dict[int, int]
) -> int:
    """Count the values in a node, with aliases written out.

    Raises:
        ConfigError: an alias is inside its own anchor; the nesting is too deep; the aliases, of a
            few lines, stand for more values than fit into memory.
    """
    if any(node is other for other in above):
        line = node.start_mark.line + 1
        hint = f"line {line} has its anchor; write out what is meant"
        raise ConfigError([Problem(path, "is an alias of what it stands in, without end", hint)])
    if len(above) > _DEPTH_MAX:
        line = node.start_mark.line + 1
        raise ConfigError([Problem("", f"line {line}: deeper than {_DEPTH_MAX} levels")])
    if id(node) not in done:  # A node with many aliases is checked once.
        inside = [
            _check_ends(value, inner, (*above, node), done)
            for inner, _, value in _inside(node, path)
        ]
        done[id(node)] = 1 + sum(inside)
    if done[id(node)] > _VALUES_MAX:
        hint = f"line {node.start_mark.line + 1}: it holds aliases of aliases"
        raise ConfigError([Problem(path, f"stands for more than {_VALUES_MAX:,} values", hint)])
    return done[id(node)]


def read_text(path: str | Path) -> str:
    """Read the file. Raises ConfigError if it cannot be read or is not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        hint = "--config or CONSERVER_CONFIG_FILE says which file to read"
        raise ConfigError(
            [Problem("", f"cannot be read: {error.strerror}", hint)], str(path)
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError([Problem("", f"is not UTF-8 at byte {error.start}")], str(path)) from None


def read_yaml(text: str, source: str) -> tuple[dict[str, Any], list[Problem]]:
    """Parse the file into its top-level mapping, and a problem for each duplicate name.

    Raises:
        ConfigError: the text is not YAML, or not a mapping.
    """
    try:
        loader = _Loader(text)
        data = loader.get_single_data()
    except ConfigError as error:
        raise ConfigError(error.problems, source) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        line = text.splitlines()[mark.line : mark.line + 1] if mark else []
        hint = "indent with blanks, not with tabs" if any("\t" in part for part in line) else ""
        raise ConfigError(
            [Problem("", f"{where}this is no YAML: {error.problem}", hint)], source
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError([Problem("", f"this is no YAML: {error}")], source) from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(
            [Problem("", "must be a mapping with links, storages and chains")], source
        )
    return {str(key): value for key, value in data.items()}, loader.doubled


def expand(value: Any, environ: Mapping[str, str], path: str, problems: list[Problem]) -> Any:
    """`value` with environment variables inserted in its texts at every depth.

    Missing variables are appended to `problems`. The variables are inserted after the YAML is
    parsed, so that their values cannot break its syntax.
    """
    if isinstance(value, str):
        return _expand_text(value, environ, path, problems) if "${" in value else value
    if isinstance(value, dict):
        return {
            key: expand(item, environ, join_path(path, [str(key)]), problems)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            expand(item, environ, join_path(path, [i]), problems) for i, item in enumerate(value)
        ]
    return value


def _expand_text(text: str, environ: Mapping[str, str], path: str, problems: list[Problem]) -> str:
    def replace(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if match[0] == "$${":
            return "${"
        if name is None:
            problems.append(
                Problem(path, "has a `${` that names no variable", "write `$${` for a plain `${`")
            )
            return ""
        if default is not None:
            return value_of(name) or default
        if name not in environ:
            hint = f"set it, or write `${{{name}:-default}}`"
            problems.append(Problem(path, f"needs ${name}, which is not in the environment", hint))
        return value_of(name)

    def value_of(name: str) -> str:
        try:
            return environ.get(name, "")
        except ConfigError as error:  # The variable's file (NAME_FILE) cannot be read.
            problems.extend(Problem(path, f"needs ${name}: {found}") for found in error.problems)
            return ""

    return _REFERENCE.sub(replace, text)


def with_lines(problems: Iterable[Problem], text: str) -> list[Problem]:
    """The problems with their line numbers in the hints, sorted by line."""
    problems = list(problems)
    if not problems:
        return []  # To find line numbers, the file must be parsed again.
    lines = dict(_lines(_Loader(text).get_single_node(), ""))
    found = []
    for problem in problems:
        path = problem.path
        while path and path not in lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        number = lines.get(path, 0)
        hints = (f"line {number}" if number else "", problem.hint)
        hint = "; ".join(part for part in hints if part)
        found.append((number, Problem(problem.path, problem.message, hint)))
    return [problem for _, problem in sorted(found, key=lambda entry: entry[0])]


def _lines(node: yaml.Node | None, path: str) -> Iterator[tuple[str, int]]:
    """(path, line) of every entry of the file. The paths have the form of Problem.path."""
    for inner, line, value in _inside(node, path):
        yield inner, line
        yield from _lines(value, inner)


def _inside(node: yaml.Node | None, path: str) -> Iterator[tuple[str, int, yaml.Node]]:
    """(path, line, node) of each value in a mapping or list."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            # A name that is not a scalar is reported later by the models.
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            yield join_path(path, [name]), key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield join_path(path, [i]), value.start_mark.line + 1, value


def located(problems: Sequence[Problem], path: str | Path) -> list[Problem]:
    """Problems of links and storages, with their line numbers in the configuration file."""
    try:
        return with_lines(problems, read_text(path))
    except (ConfigError, yaml.YAMLError):
        return list(problems)  # The file was removed or broken meanwhile; the paths suffice.
