"""Preload: which faults of a configuration are reported, and which reload is refused."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.errors import ConfigError
from conserver.plugins import reading
from conserver.supervisor.preload import Preload
from conserver.telemetry.redact import redact_text

GOOD = "chains: {a: {ingress_lists: [in, also]}}\n"


class Home:
    """A configuration file with modules beside it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.yml"
        self._folder = folder
        self.modules: list[str] = []

    def write(self, text: str) -> None:
        """Write what the next reload reads."""
        self.file.write_text(text, encoding="utf-8")

    def module(self, text: str) -> str:
        """Write a module. Returns its name, for links."""
        name = f"module_{uuid4().hex}"
        (self._folder / f"{name}.py").write_text(text, encoding="utf-8")
        self.modules.append(name)
        return name

    def read(self) -> tuple[Settings, Config]:
        """As `conserver run` reads it for its supervisor."""
        return Settings(config_file=str(self.file)), reading.read(str(self.file), {})

    def preload(self) -> Preload:
        """The Preload of a supervisor."""
        context = multiprocessing.get_context("spawn")
        return Preload(*self.read(), self.read, context, [])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.syspath_prepend(tmp_path)
    home = Home(tmp_path)
    yield home
    for name in home.modules:
        sys.modules.pop(name, None)


def logged(act: Callable[[], Any], event: str) -> list[dict[str, Any]]:
    """The lines of one event that `act` logs."""
    with capture_logs() as lines:
        act()
    return [dict(line) for line in lines if line["event"] == event]


def test_all_faults_are_reported_together(home: Home) -> None:
    """Faults of the file must not hide those of modules, options and `prepare`."""
    raises = home.module(
        "def run(vcon, options, context): return vcon\n"
        "def prepare(options): raise ValueError('no such folder')\n"
    )
    home.write(
        "links:\n"
        "  a: {module: links.tga}\n"
        f"  b: {{module: {raises}}}\n"
        f"  c: {{module: {home.module('import sys; sys.exit(3)')}}}\n"
        "storages:\n"
        "  s: {module: storage.file, options: {pth: x}}\n"
        "chains:\n"
        "  x: {links: [a, b, c, nowhere], storages: [s], ingress_lists: [in], retries: many}\n"
    )
    with pytest.raises(ConfigError) as caught:
        home.read()
    found = {problem.path: problem for problem in caught.value.problems}
    assert list(found) == [
        "chains.x.links[3]",
        "chains.x.retries",
        "links.a.module",
        "links.b",
        "links.c.module",
        "storages.s.options.pth",
    ]
    assert all("line " in problem.hint for problem in found.values())
    assert str(caught.value).startswith(f"{home.file} cannot be used:")


@pytest.mark.parametrize("chain", ["links: [a]", "links: [a], retries: many"])
def test_a_secret_option_is_hidden_in_the_error_of_a_module(home: Home, chain: str) -> None:
    """The secrets in the options of a file are hidden as soon as it is read, valid or not."""
    secret = f"k3y-{uuid4().hex}"
    name = home.module(f"raise RuntimeError('{secret}')\n")
    home.write(
        f"links: {{a: {{module: {name}, options: {{api_key: {secret}}}}}}}\n"
        f"chains: {{c: {{{chain}, ingress_lists: [in]}}}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        home.preload()
    assert "RuntimeError: " in str(caught.value)
    assert secret not in redact_text(str(caught.value))


def test_a_reload_with_a_module_that_exits_is_refused(home: Home) -> None:
    """It once ended the daemon without a message."""
    home.write(GOOD)
    loaded = home.preload()
    before = loaded.config
    leaver = home.module("import sys; sys.exit(3)")
    home.write(
        f"links: {{e: {{module: {leaver}}}}}\nchains: {{a: {{links: [e], ingress_lists: [in]}}}}\n"
    )
    (line,) = logged(loaded.reload, "reload_refused")
    assert line["faults"] == 1
    assert (
        f"links.e.module: `{leaver}` cannot be imported: SystemExit: 3 (line 1;" in line["reason"]
    )
    assert loaded.config is before
    assert loaded.generation == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is the file empty, or cut short?"),
        ("# cut short\nlinks:\n", "is the file empty, or cut short?"),
        ("chains: {a: {ingress_lists: [in], enabled: 0}}", "all are disabled"),
    ],
)
def test_a_reload_that_would_serve_nothing_is_refused(home: Home, text: str, words: str) -> None:
    """It once was accepted, and no list was served."""
    home.write(GOOD)
    loaded = home.preload()
    home.write(text)
    (line,) = logged(loaded.reload, "reload_refused")
    assert str(home.file) in line["reason"]
    assert "no list is served" in line["reason"]
    assert words in line["reason"]
    assert "`conserver pause`" in line["reason"]
    assert list(loaded.config.ingress) == ["in", "also"]


def test_a_reload_logs_warnings_and_lists_that_are_no_longer_served(home: Home) -> None:
    """A file that was cut short may still be valid."""
    home.write(GOOD)
    loaded = home.preload()
    home.write("tracers: {}\nchains: {a: {ingress_lists: [in], egress_lists: [in]}}\n")
    with capture_logs() as lines:
        loaded.reload()
    tracers, circle, gone = [line for line in lines if line["event"] == "configuration_warning"]
    assert tracers["warning"].startswith("tracers: is not used (line 1;")
    assert circle["warning"].startswith("chains.a.egress_lists: leads back to")
    assert gone["warning"] == "chains: no longer served: `also`"
    (reloaded,) = [line for line in lines if line["event"] == "reloaded"]
    assert reloaded["generation"] == loaded.generation == 2


def test_more_faults_than_a_line_holds_are_counted(home: Home) -> None:
    """The log would cut the line anywhere: whole faults are left out, and their number is given."""
    home.write(GOOD)
    loaded = home.preload()
    chains = "".join(f"  c{i}: {{ingress_lists: [i{i}], retries: many}}\n" for i in range(100))
    home.write(f"chains:\n{chains}")
    (line,) = logged(loaded.reload, "reload_refused")
    assert line["faults"] == 100
    assert len(line["reason"]) < 2000
    head, first, *_ = line["reason"].split("\n")
    assert head.endswith("`conserver check` shows all 100 faults, the first are")
    assert first == "  - chains.c0.retries: must be a whole number, not `many` (line 2)"


def test_descriptors_that_a_refused_reload_has_opened_stay_open_in_children(home: Home) -> None:
    """A module stays imported even if another one is refused; forked children may need its file."""
    home.write(GOOD)
    loaded = home.preload()
    opens = home.module(
        "import os\n"
        "descriptor = os.open(os.devnull, os.O_RDONLY)\n"
        "def run(vcon, options, context): return vcon\n"
    )
    home.write(
        f"links: {{a: {{module: {opens}}}, b: {{module: links.tga}}}}\n"
        "chains: {a: {links: [a, b], ingress_lists: [in]}}\n"
    )
    assert logged(loaded.reload, "reload_refused")
    descriptor = sys.modules[opens].descriptor
    os.close(descriptor)
    assert descriptor in loaded.preexisting


def test_descriptors_that_a_failed_import_had_open_do_not_count(home: Home) -> None:
    """Its number is free again: the supervisor's next socket may get it."""
    home.write(GOOD)
    loaded = home.preload()
    before = loaded.preexisting
    fails = home.module(
        "import os\n"
        "class Held:\n"
        "    descriptor = os.open(os.devnull, os.O_RDONLY)\n"
        "    def __del__(self): os.close(self.descriptor)\n"
        "raise RuntimeError(Held())\n"
    )
    home.write(
        f"links: {{a: {{module: {fails}}}}}\nchains: {{a: {{links: [a], ingress_lists: [in]}}}}\n"
    )
    assert logged(loaded.reload, "reload_refused")
    assert loaded.preexisting == before
