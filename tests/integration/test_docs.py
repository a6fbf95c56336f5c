"""What the documentation says is tried: its commands, its configurations, its code, its tables."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from demorun import __main__ as demorun

import conserver
from conserver.config import model as config
from conserver.config import settings
from conserver.plugins import loader as plugins
from conserver.plugins.loader import PluginError
from tests.command_line import command_tree
from tests.conftest import absent
from tests.daemon import Daemon, elements, push, vcon
from tests.pages import ROOT, Block, Shell, Step, blocks, pages, prose, steps

# What links and storages of a reader's own are called in examples.
_MADE_UP = ("my_",)
_BIN = Path(sys.executable).parent


def found(language: str) -> list[Block]:
    """All blocks of a language, in all pages."""
    return [block for page in pages() for block in blocks(page, language)]


def name_of(block: Block) -> str:
    return str(block)


# ---- commands ------------------------------------------------------------------------------------


def commands() -> list[tuple[str, str]]:
    """Every command in the pages, as (page, command): in blocks, indented, or in backticks."""
    told = []
    for path in pages():
        page = str(path.relative_to(ROOT))
        told += [(page, s.command) for b in blocks(path, "console") for s in steps(b)]
        text = prose(path)
        told += [
            (page, words)
            for words in re.findall(r"`((?:conserver |scripts/|docker compose )[^`]*)`", text)
        ]
        indented = r"^    ((?:conserver|docker compose) .*?)(?:  .*)?$"
        told += [(page, line) for line in re.findall(indented, text, re.MULTILINE)]
    return told


def test_every_command_is_there_with_its_options() -> None:
    """`conserver ...` has that command and those options, `scripts/...` is a file."""
    wrong = []
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].keys()
    root = command_tree()
    for page, text in commands():
        # A command may go on in the next line.
        words = shlex.split(text.split(" | ")[0].replace("...", "").rstrip(" \\"))
        while words and "=" in words[0]:  # A variable, for this command alone or for the shell.
            words = words[1:]
        if not words:
            continue
        if words[0] == "conserver" and not _is_command(root, words[1:]):
            wrong.append(f"{page}: {text}")
        elif words[0] == "scripts/demo":
            demorun.arguments(words[1:])  # Ends the test where it does not know an option.
        elif words[0].startswith("scripts/"):
            path = ROOT / words[0]
            if not path.exists() or (path.is_file() and not path.suffix and not _runs(path)):
                wrong.append(f"{page}: {text}")
        elif words[:2] == ["docker", "compose"] and not services & set(re.split("[ =]", text)):
            wrong.append(f"{page}: {text}")
    assert not wrong, "\n".join(wrong)


def _is_command(command: Any, words: list[str]) -> bool:
    # `Any`: Typer has a click of its own, without types.
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        known = set(words[0].split("|")) & command.commands.keys()
        if not known:
            return False
        command, words = command.commands[known.pop()], words[1:]
    options = {name for option in command.params for name in option.opts} | {"--help", "-h"}
    return all(word.partition("=")[0] in options for word in words if word.startswith("-"))


def _runs(path: Path) -> bool:
    return os.access(path, os.X_OK) or "scripts/data" in str(path)


def test_every_setting_that_is_named_exists() -> None:
    """CONSERVER_... and VCON_... are variables that somebody reads."""
    known = {variable.name for variable in settings.variables()}
    compose = (ROOT / "docker-compose.yml").read_text() + (ROOT / ".env.example").read_text()
    wrong = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in pages()
        for name in re.findall(r"\b(?:CONSERVER|VCON)_[A-Z_]+[A-Z]\b", page.read_text())
        if name not in known and name not in compose and not name.startswith("CONSERVER_TEST_")
        if page.name != "from-vcon-server.md"  # It names what vcon-server reads, and we do not.
    ]
    assert not wrong, "\n".join(wrong)


# ---- configurations ------------------------------------------------------------------------------


@pytest.mark.parametrize("block", found("yaml"), ids=name_of)
def test_every_configuration_is_right(block: Block) -> None:
    """It loads without warnings, and so does every module in it that is not the reader's own."""
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", block.text), "x")
    loaded = config.parse(block.text, environ)
    assert not loaded.warnings or not loaded.chains, loaded.warnings
    for name, link in loaded.links.items():
        if not link.module.startswith(_MADE_UP):
            plugins.load_link(name, link)
    for name, storage in loaded.storages.items():
        if not storage.module.startswith(_MADE_UP):
            plugins.load_storage(name, storage)


def test_a_wrong_configuration_would_be_seen() -> None:
    """The test above is not blind."""
    wrong = config.parse("links: {a: {module: links.tag, options: {tgas: [a]}}}", {})
    with pytest.raises(PluginError, match="tgas"):
        plugins.load_link("a", wrong.links["a"])


# ---- code ----------------------------------------------------------------------------------------


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder to put a page's files in, and to run them from."""
    return tmp_path


def put_files(page: Path, folder: Path) -> list[Path]:
    """Write the blocks that are files."""
    written = []
    for block in blocks(page):
        if block.name and block.language in ("python", "yaml", "json", "ini"):
            path = folder / block.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            written.append(path)
    return written


@pytest.mark.parametrize("block", found("python"), ids=name_of)
def test_code_compiles(block: Block) -> None:
    """Every piece of Python is Python."""
    ast.parse(block.text)


@pytest.fixture
def shell(workplace: Path, redis_url: str) -> Shell:
    """A reader's shell in that folder."""
    path = f"{_BIN}:{os.environ['PATH']}"
    return Shell(workplace, {"REDIS_URL": redis_url, "PATH": path, "COLUMNS": "400"})


@pytest.mark.parametrize("page", ["writing-links.md", "writing-storages.md"])
def test_what_the_reader_writes_works(page: str, workplace: Path, shell: Shell) -> None:
    """The page's files in one folder: its own tests pass, and its commands succeed."""
    files = put_files(ROOT / "docs" / page, workplace)
    tests = [file.name for file in files if file.name.startswith("test_")]
    assert tests
    path = f"PYTHONPATH=.:{ROOT}"
    pytest_command = "python -m pytest -q -p no:cacheprovider -p no:valkey"
    shell.run(Step(f"{path} {pytest_command} {' '.join(tests)}", ""))
    commands = [step for b in blocks(ROOT / "docs" / page, "console") for step in steps(b)]
    assert any("conserver check" in step.command for step in commands)
    for step in commands:
        if "conserver run" not in step.command:
            shell.run(step)


def test_the_link_that_the_reader_writes_runs(workplace: Path, redis_url: str) -> None:
    """In the daemon, from a folder of PYTHONPATH, as the page says."""
    put_files(ROOT / "docs" / "writing-links.md", workplace)
    place = f"{workplace}:{ROOT}"
    daemon = Daemon(workplace / "host", redis_url, {}, "fork", 1, PYTHONPATH=place)
    shutil.copy(workplace / "keywords.yml", daemon.config_file)
    with daemon, redis.Redis.from_url(redis_url) as client:
        dialog = {"type": "text", "parties": 0, "body": "a refund please", "encoding": "none"}
        (uuid,) = push(client, "calls", [vcon(dialog=[dialog])])
        daemon.until(lambda: elements(client, "calls_done") == [uuid])
        assert b"mentions:money" in (client.get(f"vcon:{uuid}") or b"")


# ---- the quick start, step by step ---------------------------------------------------------------


@pytest.fixture
def daemon(redis_url: str, tmp_path: Path) -> Iterator[Daemon]:
    """`conserver run` in a folder that holds the quick start's files, not started yet."""
    made = Daemon(tmp_path, redis_url, {}, "fork", 1)
    put_files(ROOT / "docs" / "quickstart.md", tmp_path)
    shutil.copy(tmp_path / "first.yml", made.config_file)
    yield made
    made.destroy()


@pytest.mark.slow
def test_the_quick_start(daemon: Daemon, redis_url: str) -> None:
    """Every command of it, in its order, prints what the page says."""
    if shutil.which("redis-cli") is None:
        absent("redis-cli is not installed")
    path = f"{_BIN}:{os.environ['PATH']}"
    shell = Shell(daemon.folder, {"REDIS_URL": redis_url, "PATH": path, "COLUMNS": "400"})
    ran = 0
    for block in blocks(ROOT / "docs" / "quickstart.md", "console"):
        for step in steps(block):
            if step.command == "conserver run":
                daemon.start()
            elif step.command != "scripts/install":
                shell.run(step)
            ran += 1
    assert ran > 15
    assert daemon.stop() == 0


def test_the_quick_start_names_every_extra() -> None:
    """Those that `all` consists of."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (every,) = project["optional-dependencies"]["all"]
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    install = text.partition("## Install\n")[2].partition("\n## ")[0]
    extras = set(re.findall(r"\w+", every)) - {"conserver"} | {"all"}
    assert extras - set(re.findall(r"`(\w+)`", install)) == set()


def test_the_minimal_configuration_of_the_readme(redis_url: str, tmp_path: Path) -> None:
    """Its push is stored and comes out."""
    if shutil.which("redis-cli") is None:
        absent("redis-cli is not installed")
    page = ROOT / "README.md"
    (path,) = put_files(page, tmp_path)
    shell = Shell(tmp_path, {"REDIS_URL": redis_url, "PATH": os.environ["PATH"]})
    with Daemon(tmp_path, redis_url, {}, "fork", 1) as daemon:
        # Daemon writes a configuration of its own when it is made: the page's is read on a reload.
        daemon.stop()
        put_files(page, tmp_path)
        daemon.start()
        for block in blocks(page, "console"):
            for step in steps(block):
                if step.command.startswith("redis-cli "):
                    words = step.command.removeprefix("redis-cli ")
                    shell.run(type(step)(f'redis-cli -u "$REDIS_URL" {words}', step.output))
        assert path.exists()
        stored = list((tmp_path / "vcons").rglob("0199e0a4-7c1e-8b3a-9f11-2d3c4b5a6978.json"))
        assert len(stored) == 1
        assert b"team:blue" in stored[0].read_bytes()


# ---- tables that must be whole -------------------------------------------------------------------


def test_operations_explains_every_line_that_should_worry_somebody() -> None:
    """Each warning and error that the daemon can log has its row, and there are no others."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    page = text.partition("## The log\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    logged = set(alarms())
    assert logged - told == set(), "not explained in docs/operations.md"
    known = set(alarms("info", "debug", "log")) | {"done", "filtered", "cancelled"}
    assert told - logged - known == set(), "nobody logs that"


def test_words_of_our_own_are_explained() -> None:
    """Those that an operator meets in the log, and none that nobody says any more."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| ([a-z]+) \| ", text.partition("## Words\n")[2], re.MULTILINE))
    met = {"blamed", "counted", "suspect", "first", "returned", "void", "forsaken", "strays"}
    assert met <= told
    sources = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "conserver").rglob("*.py")
    )
    assert [word for word in told - {"word"} if word not in sources] == []


def alarms(*levels: str) -> Iterator[str]:
    """The events that are logged with these levels, by default those of a warning and above."""
    wanted = levels or ("warning", "error", "critical", "exception", "emit_exception")
    for path in (ROOT / "conserver").rglob("*.py"):
        if "commands" in path.parts and path.name != "run.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in wanted:
                texts = [word for word in node.args[:2] if isinstance(word, ast.Constant)]
                yield from (word.value for word in texts[:1] if isinstance(word.value, str))


def test_architecture_names_every_part() -> None:
    """No part of conserver is without its line. scripts/docs writes the table of keys."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    parts = {path.stem for path in (ROOT / "conserver").iterdir() if not path.name.startswith("_")}
    parts -= {"py"}  # py.typed
    assert [part for part in sorted(parts) if not re.search(rf"`{part}(\.py|/)?`", page)] == []


def test_the_changelog_has_this_version() -> None:
    page = (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")
    assert f"## {conserver.__version__}" in page


def test_every_page_can_be_reached() -> None:
    """From the README or the index, or from a page that they lead to."""
    reached: set[Path] = set()
    frontier = {ROOT / "README.md"}
    while frontier:
        page = frontier.pop()
        reached.add(page)
        targets = re.findall(r"\]\(([^)#\s:]+\.md)[^)]*\)", page.read_text(encoding="utf-8"))
        frontier |= {(page.parent / target).resolve() for target in targets} - reached
    assert {str(page) for page in pages()} - {str(page) for page in reached} == set()
