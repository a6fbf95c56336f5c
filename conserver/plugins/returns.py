"""Finds links that filter by accident: `run` ends without `return vcon`.

If `run` returns None, the item is filtered: neither stored nor passed on. The same happens if the
link's author forgot the return. So only an explicit `return None` or `raise Filtered(reason)`
counts as intended. `conserver check` and the start warn of the links that are found here.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence

from conserver.config.validation import join_path
from conserver.errors import Problem
from conserver.plugins.loader import Plugins, is_foreign
from conserver.plugins.module_names import resolve

NEVER = "never returns a value, so that every vCon is filtered"
SOMETIMES = "ends without a value on some paths, and a vCon that takes one is filtered"
HINT = "end it with `return vcon`; where filtering is meant, write `return None` or raise Filtered"


def doubts(plugins: Plugins) -> list[Problem]:
    """A warning for each link that probably lacks a return."""
    return [
        Problem(join_path("links", [name, "module"]), f"`{link.module}.run` {doubt}", HINT)
        for name, link in plugins.links.items()
        if (doubt := _doubt_of_module(link.module))
    ]


def _doubt_of_module(name: str) -> str:
    run = getattr(importlib.import_module(resolve(name)), "run", None)
    if not callable(run):
        return ""
    doubt = doubt_of(run)
    # In vcon-server's links a bare `return` is the usual way to stop a chain.
    return "" if is_foreign(run) and doubt != NEVER else doubt


def doubt_of(run: Callable[..., object]) -> str:
    """What is suspicious about the returns of a function; "" if nothing is, or without source."""
    inner = inspect.unwrap(run)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inner)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return ""  # A callable object, C, a lambda.
    function = tree.body[0] if tree.body else None
    name = getattr(inner, "__name__", "")
    if not isinstance(function, ast.FunctionDef) or function.name != name:
        return ""
    returns = list(_returns(function.body))
    silent = any(one.value is None for one in returns) or not _always_ends(function.body)
    if not silent:
        return ""
    return SOMETIMES if any(_gives(one) for one in returns) else NEVER


def _returns(body: Sequence[ast.AST]) -> Iterator[ast.Return]:
    """The returns of a function itself, not of functions inside of it."""
    for node in body:
        if isinstance(node, ast.Return):
            yield node
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _returns(list(ast.iter_child_nodes(node)))


def _gives(one: ast.Return) -> bool:
    is_none = isinstance(one.value, ast.Constant) and one.value.value is None
    return one.value is not None and not is_none


def _always_ends(body: Sequence[ast.stmt]) -> bool:
    """Whether every path through these statements returns or raises; False if it is unclear."""
    return any(_ends(statement) for statement in body)


def _ends(statement: ast.stmt) -> bool:
    match statement:
        case ast.Return() | ast.Raise():
            return True
        case ast.If(body=body, orelse=orelse):
            return _always_ends(body) and _always_ends(orelse)
        case ast.With(items=items, body=body):
            swallows = any("suppress" in ast.unparse(item.context_expr) for item in items)
            return not swallows and _always_ends(body)
        case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=final):
            tried = _always_ends([*body, *orelse])
            caught = all(_always_ends(handler.body) for handler in handlers)
            return _always_ends(final) or (tried and caught)
        case ast.While(test=ast.Constant(value=constant), body=body):
            return bool(constant) and not _breaks(body)
        case ast.Match(cases=cases):
            anything = any(
                isinstance(case.pattern, ast.MatchAs)
                and case.pattern.pattern is None
                and case.guard is None
                for case in cases
            )
            return anything and all(_always_ends(case.body) for case in cases)
    return False


def _breaks(body: Sequence[ast.AST]) -> bool:
    """Whether this loop body contains a `break` of the loop itself."""
    for node in body:
        if isinstance(node, ast.Break):
            return True
        if not isinstance(node, ast.For | ast.While | ast.FunctionDef) and _breaks(
            list(ast.iter_child_nodes(node))
        ):
            return True
    return False
