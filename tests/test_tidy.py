"""The house rules, as tests: what a reviewer should never have to say.

They read the source and run nothing of it. Where a rule is in the way of something better, change
the rule here, with a reason.
"""

from __future__ import annotations

import ast
import functools
import os
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINE_COLUMNS = 100
FUNCTION_LINES = 60
MODULE_LINES = 500

# What tools and tests leave in a checkout.
MADE_HERE = frozenset(
    ".git .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache __pycache__ build dist".split()
)
# The packages of conserver, and what each may import besides itself and EVERYBODYS. Downwards only.
ARROWS = {
    "telemetry": "",
    "config": "telemetry",
    # One reader of tags and transcripts for all: the storages import nothing of conserver.
    "vcon": "storage.reading",
    "process": "config telemetry",
    "queue": "vcon process telemetry",
    "outbound": "vcon process telemetry storage.network storage.reading",
    "media": "",
    "media.transcription": "vcon outbound storage.reading",
    "media.speech": "media.transcription process outbound telemetry",
    "media.extraction": "vcon process telemetry storage.reading",
    "links": "vcon process outbound media.transcription media.speech media.extraction "
    "storage.network storage.reading",
    "plugins": "config vcon queue links storage.contract storage.network storage.reading",
    "worker": "media.speech media.extraction plugins process outbound queue vcon config telemetry "
    "links storage.contract",
    "coordinator": "operations.monitoring operations process queue config telemetry",
    "supervisor": "media.speech plugins process config telemetry",
    "operations": "plugins process outbound queue vcon config telemetry storage.contract",
    # Imported only where something is scraped, by the processes that answer.
    "operations.monitoring": "operations process telemetry",
    "http.api": "operations.monitoring operations process media.transcription outbound queue vcon "
    "config telemetry storage.reading",
    # Pages over what the API's routes work with: its context, its tokens, its ways to take work in.
    "http.dashboard": "http.api operations media.transcription outbound queue vcon config "
    "telemetry storage.reading storage.contract",
    "http": "http.dashboard http.api operations process config telemetry",
    "cli": "http operations.monitoring operations supervisor media.speech media.transcription "
    "plugins process config telemetry",
    "__main__": "cli process telemetry",
    # Tools for tests of links and storages; no other package imports it.
    "testing": "operations worker plugins process queue vcon config telemetry storage.contract",
}
EVERYBODYS = {"errors", "__version__"}
# Names that, called while a module is imported, would be work: files, processes, connections.
WORK = frozenset(
    "open read_text read_bytes write_text glob iterdir mkdir connect create_connection socket "
    "socketpair Popen run check_output system fork getenv sleep Thread Process from_url Redis "
    "client resource basicConfig signal import_module urandom pipe memfd_create".split()
)

# Calls that stand by themselves in a module and only declare something.
DECLARATIONS = (".add_typer", ".register_assert_rewrite")


def sources(*folders: str) -> list[Path]:
    """The files of the project in these folders of the checkout; with none, in all of them."""
    found: list[Path] = []
    for folder in folders or (".",):
        for place, names, files in os.walk(ROOT / folder):
            names[:] = [name for name in names if name not in MADE_HERE]
            found += [Path(place, name) for name in files if not name.endswith(".pyc")]
    return sorted(found)


def python(*folders: str) -> list[Path]:
    return [path for path in sources(*folders) if path.suffix == ".py"]


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def known_modules() -> set[str]:
    return {module_of(path) for path in python("conserver", "storage")}


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """What a file imports at run time, at its top or anywhere inside, as (line, module).

    What is imported for the type checker only binds nothing and is left out.
    """
    known = known_modules()
    hidden = {
        id(inner)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree_of(path)):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            assert node.level == 0, f"{where(path, node)}: imports are absolute here"
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full in known else base


def where(path: Path, node: ast.AST | int) -> str:
    line = node if isinstance(node, int) else getattr(node, "lineno", 0)
    return f"{path.relative_to(ROOT)}:{line}"


def report(found: list[str], rule: str) -> None:
    assert not found, "\n".join([rule, *found])


def test_imports_go_one_way() -> None:
    found = []
    for path in python("conserver"):
        own = package_of(module_of(path))
        for line, name in imports_of(path):
            package = name if name.startswith("storage") else package_of(name)
            ours = name.split(".")[0] in ("conserver", "storage") and name != "conserver"
            if ours and package not in {own, *EVERYBODYS, *ARROWS.get(own, "").split()}:
                found.append(f"{where(path, line)}: {own} imports {name}")
    report(found, "an import against the arrows (see ARROWS):")


def package_of(module: str) -> str:
    """conserver.queue.script is in the package queue, conserver.http.api.app in http.api; conserver
    itself is in none.
    """
    parts = module.split(".")[1:]
    inner = ".".join(parts[:2])
    return inner if inner in ARROWS else "".join(parts[:1])


def test_the_arrows_between_packages_make_no_circle() -> None:
    list(
        TopologicalSorter(
            {package: set(below.split()) for package, below in ARROWS.items()}
        ).static_order()
    )
    packages = {package_of(module_of(path)) for path in python("conserver")}
    assert packages - {"", *EVERYBODYS} == ARROWS.keys(), "each package has its line in ARROWS"


def test_a_stranger_finds_the_way_from_the_first_listing() -> None:
    entries = {path.relative_to(ROOT / "conserver").parts[0] for path in sources("conserver")}
    assert len(entries) <= 20


def test_no_package_uses_what_another_keeps_to_itself() -> None:
    found = [
        f"{where(path, node)}: {alias.name} of {node.module}"
        for path in python("conserver")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("conserver.")
        if package_of(module_of(path)) != package_of(node.module or "")
        for alias in node.names
        if alias.name.startswith("_") and alias.name != "__version__"
    ]
    report(found, "a name with an underscore stays in its package:")


def test_no_module_is_imported_in_a_circle() -> None:
    graph = {
        module_of(path): {
            name for _, name in imports_of(path) if name.split(".")[0] in ("conserver", "storage")
        }
        - {module_of(path)}
        for path in python("conserver", "storage")
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


def test_the_storages_know_nothing_of_conserver() -> None:
    found = [
        f"{where(path, line)}: imports {name}"
        for path in python("storage")
        for line, name in imports_of(path)
        if name.split(".")[0] == "conserver"
    ]
    report(found, "the package storage stands alone:")


def test_what_is_installed_imports_nothing_of_the_checkout() -> None:
    checkout = {"tests", *(path.parent.name for path in python("scripts"))}
    found = [
        f"{where(path, line)}: imports {name}"
        for path in python("conserver", "storage")
        for line, name in imports_of(path)
        if name.split(".")[0] in checkout - {"conserver", "storage"}
    ]
    report(found, "tests and scripts are not in the wheel:")


def test_functions_fit_a_screen() -> None:
    found = []
    for path in python("conserver", "storage", "scripts"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    found.append(f"{where(path, node)}: {node.name} has {length} lines")
    report(found, f"a function has at most {FUNCTION_LINES} lines:")


def test_modules_keep_to_one_subject() -> None:
    found = []
    for path in python("conserver", "storage", "scripts"):
        lines = len(path.read_text().splitlines())
        if lines > MODULE_LINES:
            found.append(f"{where(path, 1)}: {lines} lines")
    report(found, f"a module has at most {MODULE_LINES} lines:")


def test_modules_say_what_they_are_for() -> None:
    found = []
    for path in python():
        body = tree_of(path).body
        if not body:
            continue
        if not ast.get_docstring(tree_of(path)):
            found.append(f"{where(path, 1)}: no docstring")
            continue
        plain = all(isinstance(node, ast.Expr | ast.Assign) for node in body)
        if not plain and "from __future__ import annotations" not in ast.unparse(body[1]):
            found.append(f"{where(path, 2)}: `from __future__ import annotations` comes first")
    report(found, "every module opens with its role:")


def test_a_package_that_lists_its_files_lists_all_of_them() -> None:
    found = []
    for path in sorted((ROOT / "conserver").glob("*/__init__.py")):
        words = set(re.findall(r"\b[a-z][a-z_0-9]*\b", ast.get_docstring(tree_of(path)) or ""))
        files = {file.stem for file in path.parent.glob("*.py")} - {"__init__"}
        missing = files - words
        if len(missing) <= len(files) / 2:
            found += [f"{where(path, 1)}: {name}.py is not in its list" for name in sorted(missing)]
    report(found, "a list of files in a docstring has every file:")


def test_lua_scripts_say_what_they_are_for() -> None:
    scripts = [path for path in sources("conserver", "storage") if path.suffix == ".lua"]
    found = [where(path, 1) for path in scripts if not path.read_text().startswith("--")]
    report(found, "every Lua script opens with a comment:")


def test_lines_fit_the_page() -> None:
    found = []
    for path in sources("conserver", "storage", "scripts", "tests"):
        if path.suffix not in (".py", ".lua", ".sh", ".sql", ""):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if len(line) > LINE_COLUMNS:
                found.append(f"{where(path, number)}: {len(line)} columns")
    report(found, f"a line has at most {LINE_COLUMNS} columns:")


def test_only_the_commands_print() -> None:
    found = []
    for path in python("conserver", "storage"):
        if package_of(module_of(path)) in ("cli", "__main__"):
            continue
        found += [
            where(path, call)
            for call in calls_in(tree_of(path), lambdas=True)
            if name_of(call) == "print"
        ]
    report(found, "only conserver.cli prints; everything else logs:")


def test_operations_know_no_terminal() -> None:
    """They take arguments and return frozen values: commands and the API show them in own ways."""
    found = []
    for path in python("conserver"):
        package = package_of(module_of(path))
        if package not in ("cli", "__main__"):
            found += [
                f"{where(path, line)}: imports {name}"
                for line, name in imports_of(path)
                if name.split(".")[0] in ("typer", "click", "rich")
            ]
        if package != "operations":
            continue
        for node in ast.walk(tree_of(path)):
            text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if text in ("os.environ", "sys.argv", "sys.exit", "sys.stdout", "sys.stderr"):
                found.append(f"{where(path, node)}: {text}")
            if isinstance(node, ast.ClassDef):
                found += [
                    f"{where(path, node)}: {node.name} is not frozen"
                    for decorator in node.decorator_list
                    if "dataclass" in ast.unparse(decorator)
                    and "frozen=True" not in ast.unparse(decorator)
                ]
    report(found, "only conserver.cli knows terminals, and operations return frozen values:")


def test_importing_a_module_does_no_work() -> None:
    found = []
    for path in python("conserver", "storage"):
        for statement, call in calls_at_import(tree_of(path).body):
            name = name_of(call)
            declares = name.endswith(DECLARATIONS)
            if (statement and not declares) or name.rpartition(".")[2] in WORK or "environ" in name:
                found.append(f"{where(path, call)}: {name}")
    report(found, "importing a module opens, starts and asks nothing:")


def calls_at_import(body: list[ast.stmt]) -> Iterator[tuple[bool, ast.Call]]:
    """The calls that run while a body is imported, and whether each is a statement by itself."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.ClassDef):
            yield from calls_at_import(node.body)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            is_main = isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
            if not is_main:
                yield from calls_at_import(node.body)
                yield from calls_at_import(getattr(node, "orelse", []))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield True, node.value
        else:
            yield from ((False, call) for call in calls_in(node))


def calls_in(node: ast.AST, *, lambdas: bool = False) -> Iterator[ast.Call]:
    """The calls in a piece of code; those that a lambda keeps for later only if asked for."""
    if isinstance(node, ast.Lambda) and not lambdas:
        return
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from calls_in(child, lambdas=lambdas)


def name_of(call: ast.Call) -> str:
    return ast.unparse(call.func)


def test_no_error_is_swallowed_whole() -> None:
    found = []
    for path in python("conserver", "storage", "scripts"):
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            names = "" if node.type is None else ast.unparse(node.type)
            blind = re.search(r"\b(Base)?Exception\b", names) is not None
            silent = all(isinstance(one, ast.Pass | ast.Continue) for one in node.body)
            if node.type is None or (blind and silent):
                found.append(where(path, node))
    report(found, "an except names what it expects, and does something about it:")


def test_tests_wait_for_events_and_change_no_foreign_globals() -> None:
    """A sleep is only for where time itself is the matter, and its line says so."""
    banned = {"time.sleep", "sleep", "monkeypatch.setattr", "mock.patch", "patch"}
    found = []
    for path in python("tests"):
        if path.name == "helpers.py" or "modules" in path.parts:
            # The links and storages in tests/modules are what misbehaves on order.
            continue
        lines = path.read_text().splitlines()
        found += [
            f"{where(path, call)}: {name_of(call)}"
            for call in calls_in(tree_of(path), lambdas=True)
            if name_of(call) in banned
            and not (name_of(call) == "time.sleep" and "# " in lines[call.lineno - 1])
        ]
    report(found, "a test polls with a deadline (eventually), and hands in what it replaces:")


def test_every_folder_of_tests_is_a_package() -> None:
    folders = {path.parent for path in python("tests")}
    found = [f"{folder.relative_to(ROOT)}" for folder in folders if not is_package(folder)]
    report(
        sorted(found), "two test modules may have one name only in packages; add __init__.py to:"
    )


def is_package(folder: Path) -> bool:
    return (folder / "__init__.py").exists()


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    found = []
    for path in sources("conserver", "storage", "scripts", "tests", "docs"):
        if path.suffix not in (".py", ".lua", ".md", ".yml", ""):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if marks.search(line):
                found.append(where(path, number))
    report(found, "what is left to do is an issue, not a comment:")


@pytest.mark.parametrize("name", ["all", "demo", "image-cpu", "image-cuda"])
def test_pins_name_versions_and_hashes_but_no_addresses(name: str) -> None:
    text = (ROOT / "scripts" / "pins" / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    bare = [entry.split("\n")[0] for entry in entries if "==" not in entry.split("\n")[0]]
    unhashed = [entry.split("\n")[0] for entry in entries if "--hash=sha256:" not in entry]
    report(bare + unhashed, "every pin has an exact version and hashes:")
    assert "://" not in text
    assert "--index-url" not in text


def test_links_in_the_documentation_lead_somewhere() -> None:
    link = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
    found = []
    for path in sources():
        if path.suffix != ".md":
            continue
        found += [
            f"{path.relative_to(ROOT)}: {target}"
            for target in link.findall(path.read_text())
            if "://" not in target and not (path.parent / target).exists()
        ]
    report(found, "a relative link is broken:")
