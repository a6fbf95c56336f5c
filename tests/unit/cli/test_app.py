"""The command line: what starts without a server, what is refused, and with which exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr
from servers import Redis

from conserver.cli.app import COMMANDS
from conserver.cli.output import Output, age_text, execute
from conserver.cli.tables import Marked
from conserver.config.settings import Settings, variables
from conserver.errors import (
    EXIT_CONFIG,
    EXIT_FAILURE,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    BootError,
    ConserverError,
)
from tests.command_line import Command, command_tree, every_command
from tests.conftest import Private

ROOT = Path(__file__).parents[3]
NOWHERE = "redis://user:pa55@127.0.0.1:1"


@pytest.fixture
def conserver(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Command:
    """`conserver("check", "--json")` runs that command."""
    return Command(monkeypatch, capfdbinary, {"REDIS_URL": NOWHERE})


def test_help_names_every_command(conserver: Command) -> None:
    """Whoever knows nothing finds all there is."""
    lines = conserver("--help").stdout.decode().splitlines()
    listed = lines[lines.index("Commands:") + 1 :]
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert conserver("--version").stdout.startswith(b"conserver ")
    assert b"requeue" in conserver("dlq", "--help").stdout


@pytest.mark.parametrize("group", [[], ["dlq"], ["jobs"], ["schedules"], ["token"]])
def test_help_says_of_each_command_a_whole_sentence(conserver: Command, group: list[str]) -> None:
    """On a terminal of 80 columns, where Click cuts what is longer."""
    lines = conserver(*group, "--help").stdout.decode().splitlines()
    commands = lines[lines.index("Commands:") + 1 :]
    assert [line for line in commands if line.endswith("...")] == []


def test_the_table_of_commands_says_what_they_say_themselves() -> None:
    """Each command is in the table, with the first sentence of its help, and in a module."""
    for name, command in command_tree().commands.items():
        assert command.help.partition("\n")[0] == COMMANDS[name]
    declared = {
        path.stem
        for path in (ROOT / "conserver/cli").glob("*.py")
        if "\napp = typer_app(" in path.read_text()
    }
    assert declared == set(COMMANDS)


@pytest.mark.parametrize("words", [["--help"], ["cancel", "--help"], ["statsu"]])
def test_no_command_is_imported_for_another(words: list[str]) -> None:
    """The list of all commands and a hint for a misspelt one need no module of any."""
    code = (
        "import sys\n"
        "from conserver.cli.app import COMMANDS, run_cli\n"
        f"run_cli({words!r})\n"
        "sys.stderr.write(str([m for m in COMMANDS if f'conserver.cli.{m}' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=90, check=True
    )
    wanted = [word for word in words if word in COMMANDS]
    assert done.stderr.endswith(str(wanted).encode())
    assert (b"Did you mean 'status'?" in done.stderr) == (words == ["statsu"])


def test_wrong_usage_has_its_own_exit_code(conserver: Command) -> None:
    """An unknown command or option is told on standard error, with code 2."""
    for words in (
        ["nothing"],
        ["status", "--nothing"],
        ["run", "--nothing"],
        ["dlq", "requeue"],
        ["dlq", "list", "--older", "soon"],
    ):
        done = conserver(*words)
        assert done.returncode == EXIT_USAGE
        assert done.stderr
        assert done.stdout == b""


@pytest.mark.parametrize(
    "words",
    [["status", "--watch", "-1"], ["status", "--watch", "inf"], ["drain", "--timeout", "-1"],
     ["submit", "-", "--timeout", "-5"],
     *([*command, value] for value in ("nan", "inf", "1e308") for command in (
         ["status", "--watch"], ["drain", "--timeout"], ["reload", "--timeout"],
         ["submit", "-", "--timeout"]))],
)  # fmt: skip
def test_times_that_are_none(conserver: Command, words: list[str]) -> None:
    """Nobody waits for less than nothing, or for ever."""
    done = conserver(*words)
    assert done.returncode == EXIT_USAGE
    assert words[-2].encode() in done.stderr


@pytest.mark.parametrize("name", ["DLQ:calls", "conserver:hosts", "a\nb"])
def test_submit_refuses_what_is_no_list(conserver: Command, name: str) -> None:
    """As the configuration does, and before anything is written."""
    done = conserver("submit", "-", "--list", name)
    assert done.returncode == EXIT_USAGE
    assert b"the name of a list must" in done.stderr


def test_check_of_the_shipped_configuration(conserver: Command) -> None:
    """The file that comes with Conserver is right, without warnings."""
    done = conserver("check", "--json")
    assert done.returncode == 0
    assert orjson.loads(done.stdout) == {
        "ok": True,
        "problems": [],
        "warnings": [],
        "connections": [],
        "chains": {"main": ["inbox"]},
    }


def test_the_examples_in_the_shipped_configuration(conserver: Command, tmp_path: Path) -> None:
    """What is commented out in it is right as well, once the # is taken away."""
    text = (ROOT / "config.yml").read_text(encoding="utf-8")
    path = tmp_path / "config.yml"
    lines = [line[1:] if line.startswith("#  ") else line for line in text.splitlines()]
    path.write_text("\n".join(lines), encoding="utf-8")
    done = conserver("check", "--json", "--config", str(path))
    assert orjson.loads(done.stdout)["warnings"] == []
    assert done.returncode == 0


def test_check_tells_every_problem(conserver: Command, tmp_path: Path) -> None:
    """Faults of settings, of the file, of plugins: told by path on standard error, code 78."""
    path = tmp_path / "config.yml"
    path.write_text("chains: {a: {link: [x]}}\n", encoding="utf-8")
    done = conserver("check", "-c", str(path))
    assert done.returncode == EXIT_CONFIG
    assert b"chains.a.link: is not known here (line 1; did you mean `links`?)" in done.stderr
    path.write_text(
        "links: {x: {module: links.tga}}\nchains: {a: {links: [x], ingress_lists: [a]}}\n",
        encoding="utf-8",
    )
    done = conserver("check", "--json", "-c", str(path))
    assert done.returncode == EXIT_CONFIG
    (problem,) = orjson.loads(done.stdout)["problems"]
    assert problem["path"] == "links.x.module"
    assert problem["hint"] == "line 1; did you mean `links.tag`?"
    path.write_text(
        "links: {x: {module: links.tga}}\nchains: {a: {links: [x], ingress_list: [a]}}\n",
        encoding="utf-8",
    )
    done = conserver("check", "-c", str(path))
    assert b"links.x.module: there is no module" in done.stderr
    assert b"chains.a.ingress_list: is not known here" in done.stderr
    assert done.stderr.endswith(f"{path}: 2 errors\n".encode())
    done = conserver("check", CONSERVER_WORKERS="none", LOG_LEVEL="loud")
    assert done.returncode == EXIT_CONFIG
    assert done.stderr.count(b"error: ") == 2


def test_check_tells_of_tokens_that_cannot_be_read(conserver: Command, tmp_path: Path) -> None:
    for variable in ("CONSERVER_API_TOKENS_FILE", "CONSERVER_API_TOKEN_FILE"):
        done = conserver("check", **{variable: str(tmp_path / "none")})
        assert done.returncode == EXIT_CONFIG
        assert f"error: {variable}: `{tmp_path}/none` cannot be read".encode() in done.stderr


def test_check_connect_says_who_is_away(conserver: Command) -> None:
    """A server that does not answer has code 69, and its password is not shown."""
    done = conserver("check", "--connect")
    assert done.returncode == EXIT_UNAVAILABLE
    assert b"redis://user:***@127.0.0.1:1" in done.stderr
    assert b"pa55" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    "words",
    [["health"], ["status"], ["doctor"], ["get", "u"], ["cancel", "u"], ["pause", "x"], ["resume"],
     ["drain"], ["dlq", "list"], ["submit", "-", "--list", "x"]],
)  # fmt: skip
def test_commands_say_that_redis_is_away(conserver: Command, words: list[str]) -> None:
    """Each command that needs Redis ends with code 69 and says which Redis."""
    done = conserver(*words)
    assert done.returncode == EXIT_UNAVAILABLE
    assert b"redis://user:***@127.0.0.1:1 cannot be reached" in done.stderr


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"CONSERVER_START_METHOD": "thread"}, b"empty, fork, spawn or forkserver"),
        ({"CONSERVER_CONFIG_FILE": "nowhere.yml"}, b"nowhere.yml cannot be used"),
    ],
)
def test_run_refuses_to_start(conserver: Command, environ: dict[str, str], text: bytes) -> None:
    """A wrong setting or file ends `run` at once, with the reason and code 78."""
    done = conserver("run", **environ)
    assert done.returncode == EXIT_CONFIG
    assert text in done.stderr


def test_run_says_in_which_line_a_link_is_wrong(tmp_path: Path) -> None:
    """Modules and options are looked at after the file: their faults name it all the same."""
    path = tmp_path / "config.yml"
    path.write_text(
        "links:\n  x:\n    module: links.tga\nchains: {a: {links: [x], ingress_lists: [a]}}\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "conserver", "run", "-c", str(path)],
        cwd=ROOT,
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == EXIT_CONFIG
    assert f"{path} cannot be used".encode() in done.stderr
    assert b"there is no module `links.tga` (line 3; did you mean `links.tag`?)" in done.stderr


def test_settings_are_listed_with_meaning_and_without_secrets(conserver: Command) -> None:
    """The list has every variable, says what comes from the environment, and warns of misspelt."""
    done = conserver("settings", "--json", CONSERVER_WORKERS="3", CONSERVER_WORKER="4")
    rows = {row["name"]: row for row in orjson.loads(done.stdout)}
    assert rows["CONSERVER_WORKERS"]["value"] == 3
    assert rows["CONSERVER_WORKERS"]["given"]
    assert not rows["CONSERVER_LEASE_S"]["given"]
    assert rows["REDIS_URL"]["value"] == "redis://user:***@127.0.0.1:1"
    assert all(row["meaning"] for row in rows.values())
    assert b"did you mean `CONSERVER_WORKERS`?" in done.stderr
    assert b"CONSERVER_WORKERS" in conserver("settings").stdout


SECRETS = [
    one.name
    for one in variables()
    if Settings.model_fields[one.field].annotation is SecretStr and one.name != "REDIS_URL"
]


@pytest.mark.parametrize("words", ["settings", "settings --json", "check --json", "doctor --json"])
@pytest.mark.parametrize("name", SECRETS)
def test_no_command_shows_a_setting_that_is_a_secret(
    conserver: Command, name: str, words: str
) -> None:
    """Neither where it can be used, nor in the error where it cannot."""
    for secret in ("whsec_QzRyM3RQVw==", "whsec_cr3tPW", "two words cr3tPW"):
        done = conserver(*words.split(), **{name: secret})
        shown = done.stdout + done.stderr
        assert not [part for part in (b"QzRyM3RQVw", b"cr3tPW") if part in shown]
        assert b"Traceback" not in done.stderr
    assert conserver("settings", **{name: "whsec_QzRyM3RQVw=="}).stdout.count(b"***") == 2, (
        "this one, and the password of REDIS_URL"
    )


def test_settings_are_listed_although_some_are_wrong(conserver: Command) -> None:
    done = conserver("settings", CONSERVER_WORKERS="many", LOG_LEVEL="loud", CONSERVER_LEASE_S="7")
    assert done.returncode == EXIT_CONFIG
    rows = {line.split()[0]: line for line in done.stdout.decode().splitlines()}
    assert "cannot be used" in rows["CONSERVER_WORKERS"]
    assert "cannot be used" in rows["LOG_LEVEL"]
    assert rows["CONSERVER_LEASE_S"].split()[1] == "7"
    assert b"error: CONSERVER_WORKERS: must be a number of workers" in done.stderr
    assert b"error: LOG_LEVEL: must be" in done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:1?password=s3cr3tPW",
        "redis://127.0.0.1:1?client_name=c&password=s3cr3tPW",
        "rediss://127.0.0.1:1?ssl_password=s3cr3tPW",
        "redis://me@corp:s3cr3tPW@127.0.0.1:1",
        "redis://s3cr3tPW@127.0.0.1:1",
        "redis://:s3/cr3tPW@127.0.0.1:1",
        "redis://default:s3 cr3tPW@127.0.0.1:1",
        "redis://:s3cr3tPW@127.0.0.1:port",
        "redis://:s3cr3tPW@127.0.0.1:1?bogus=1",
    ],
)
def test_no_command_shows_the_password_of_redis(conserver: Command, url: str) -> None:
    """Wherever it stands in REDIS_URL, and whether or not that can be used."""
    commands = ("settings", "settings --json", "status", "doctor", "check --connect --json")
    for words in commands:
        done = conserver(*words.split(), REDIS_URL=url)
        assert b"cr3tPW" not in done.stdout + done.stderr, words
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "url", ["redis://:x@h:port", "redis://h:99999", "redis://h?bogus=1", "redis://h/abc"]
)
def test_check_and_run_refuse_a_redis_url_that_cannot_be_used(conserver: Command, url: str) -> None:
    """With the same words and the same code, before anything starts."""
    for words in ("check", "run", "status"):
        done = conserver(words, REDIS_URL=url)
        assert done.returncode == EXIT_CONFIG, words
        assert b"REDIS_URL: " in done.stderr


def test_a_refused_login_is_a_fault_of_the_configuration(
    conserver: Command, private: Private
) -> None:
    """Redis answers: to wait for it, or to start again, would change nothing."""
    url = f"redis://:wr0ng@127.0.0.1:{private(Redis({'requirepass': 'right'})).port}"
    for words in (["check", "--connect"], ["status"]):
        done = conserver(*words, REDIS_URL=url)
        assert done.returncode == EXIT_CONFIG, words
        assert b"refuses us" in done.stderr
    done = conserver("check", "--connect", REDIS_URL=url)
    assert b": 1 server refuses us\n" in done.stderr
    assert b"away" not in done.stderr
    done = conserver("check", "--connect", "--json", REDIS_URL=url)
    assert done.returncode == EXIT_CONFIG
    (answer,) = orjson.loads(done.stdout)["connections"]
    assert (answer["ok"], answer["refused"]) == (False, True)


def test_no_fault_that_check_tells_shows_a_secret(
    conserver: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even what a module of somebody else says when it is imported."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "leaky.py").write_text("raise ValueError('http://u:s3cr3tPW@h')\n")
    path = tmp_path / "config.yml"
    path.write_text(
        "links: {x: {module: leaky, options: {}}}\nchains: {a: {links: [x], ingress_lists: [a]}}\n",
        encoding="utf-8",
    )
    for words in (["check"], ["check", "--json"]):
        done = conserver(*words, "-c", str(path))
        assert done.returncode == EXIT_CONFIG
        assert b"http://u:***@h" in done.stdout + done.stderr
        assert b"cr3tPW" not in done.stdout + done.stderr


def test_tables_show_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor do cells that stand out."""
    rows = [["redis://:pa55@h", Marked("https://u:pa55@h", "bad"), 7]]
    Output().table(["a", "b", "c"], rows)
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "redis://:***@h", "https://u:***@h", "7"
    ]  # fmt: skip


def test_run_does_not_import_the_command_line() -> None:
    """The daemon's way has no Typer, Rich or Redis client before its first process."""
    code = (
        "import sys\n"
        "from conserver.telemetry import log\n"
        "import conserver.__main__, conserver.cli.daemon\n"
        "print([m for m in ('typer', 'rich', 'redis', 'numpy', 'boto3') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=90, check=True
    )
    assert done.stdout.strip() == b"[]"


@pytest.mark.parametrize(
    ("command", "closed", "code"),
    [("settings", "<&- >&- 2>&-", 0), ("settings", ">&-", 0), ("run --workers x", "2>&-", 78)],
)
def test_a_closed_standard_stream_changes_no_exit_code(
    command: str, closed: str, code: int
) -> None:
    line = f"exec {sys.executable} -m conserver {command} {closed}"
    done = subprocess.run(
        ["sh", "-c", line], cwd=ROOT, capture_output=True, timeout=90, check=False
    )
    assert (done.returncode, done.stderr) == (code, b"")


def test_too_few_files_for_the_workers_are_a_message(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("chains: {a: {ingress_lists: [in]}}")
    line = f"ulimit -n 32; exec {sys.executable} -m conserver run --workers 30"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env=environ, capture_output=True, timeout=90, check=False
    )
    assert done.returncode == 70, done
    assert b"Too many open files" in done.stderr
    assert b"raise `ulimit -n`" in done.stderr
    assert b"Traceback" not in done.stdout + done.stderr


def test_another_error_of_the_operating_system_keeps_its_traceback() -> None:
    code = (
        "from conserver.config.model import Config\n"
        "from conserver.config.settings import Settings\n"
        "from conserver.supervisor import supervisor\n"
        "def denied(settings): raise PermissionError('denied')\n"
        "supervisor.run(Settings(), Config(), None, services=denied)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=90, check=False
    )
    assert done.returncode == 1
    assert b"Traceback" in done.stdout, done
    assert b"BootError" not in done.stdout, done


def test_no_command_imports_the_client_of_redis_before_it_connects() -> None:
    """Whoever connects imports it in the cheap way (process/imports.py)."""
    code = (
        "import importlib, pkgutil, sys\n"
        "import conserver.cli\n"
        "for found in pkgutil.iter_modules(conserver.cli.__path__):\n"
        "    importlib.import_module(f'conserver.cli.{found.name}')\n"
        "    if 'redis' in sys.modules:\n"
        "        sys.exit(found.name)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=90, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BootError("m", EXIT_UNAVAILABLE), EXIT_UNAVAILABLE),
        (ConserverError("m"), EXIT_FAILURE),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_exit_codes(error: BaseException, code: int) -> None:
    """What a command raises is a message and a code, never a traceback."""

    def action() -> int:
        raise error

    assert execute(action) == code


def test_age_text() -> None:
    """Durations are short and have a unit."""
    assert [age_text(n) for n in (5, 130, 7300, 200_000)] == ["5 s", "2 min", "2 h", "2 d"]


def test_help_has_examples_that_are_right(conserver: Command) -> None:
    """Each is of its command, with options that this has."""
    seen = 0
    for name, command in every_command():
        options = {name for option in command.params for name in option.opts}
        for line in (command.epilog or "").splitlines()[2:]:
            seen += 1
            assert f"{line.strip()} ".startswith(f"conserver {name} ")
            given = {word for word in line.split() if word.startswith("-") and word != "-"}
            assert given <= options, line
    assert seen > 20
    text = conserver("submit", "--help").stdout.decode()
    assert "conserver submit --list calls --wait recordings/" in text
    assert "<bool>" not in text


def test_a_shell_can_complete(conserver: Command) -> None:
    environ = {
        "_CONSERVER_COMPLETE": "complete_bash",
        "COMP_WORDS": "conserver dl",
        "COMP_CWORD": "1",
    }
    assert b"dlq" in conserver(**environ).stdout
    environ |= {"COMP_WORDS": "conserver dlq re", "COMP_CWORD": "2"}
    assert b"requeue" in conserver(**environ).stdout
    environ |= {"COMP_WORDS": "conserver cancel --js", "COMP_CWORD": "2"}
    assert b"--json" in conserver(**environ).stdout


@pytest.mark.parametrize("words", [["-w", "many"], ["--workers", "0"], ["-w", "2", "-w", "many"]])
def test_run_takes_the_number_of_workers(conserver: Command, words: list[str]) -> None:
    done = conserver("run", *words)
    assert done.returncode == EXIT_CONFIG
    assert b"CONSERVER_WORKERS" in done.stderr


@pytest.mark.parametrize("words", [["--workers"], ["--walkers", "2"], ["--help"], ["x"]])
def test_what_run_cannot_do_is_told(conserver: Command, words: list[str]) -> None:
    done = conserver("run", *words)
    assert done.returncode == (0 if words == ["--help"] else EXIT_USAGE)
    said = (done.stdout + done.stderr).decode()
    assert "Usage: conserver run" in said or "'--workers' requires an argument" in said
