"""What a process that starts imports, and what it leaves out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_START = """
import gc, sys
from conserver.process.imports import cheap_imports
{before}
with cheap_imports():
    collected = gc.isenabled()
    import redis
from opentelemetry import metrics
assert not collected and gc.isenabled()
assert gc.get_freeze_count() > 10_000
print(redis.observability.metrics.OTEL_AVAILABLE)
"""


@pytest.mark.parametrize(
    ("before", "environ", "found"),
    [
        ("", {}, "False"),
        ("", {"OTEL_METRICS_EXPORTER": "otlp"}, "True"),
        ("import opentelemetry", {}, "True"),
    ],
)
def test_redis_finds_opentelemetry_only_where_somebody_uses_it(
    before: str, environ: dict[str, str], found: str
) -> None:
    script = _START.format(before=before)
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (found, "")


_MODELS = """
import os, sys
from conserver.process.imports import cheap_imports
with cheap_imports(), cheap_imports():
    import pydantic
    class Ours(pydantic.BaseModel):
        name: str
class Theirs(pydantic.BaseModel):
    name: str
print("PYDANTIC_DISABLE_PLUGINS" in os.environ)
"""
_VARIABLE = "PYDANTIC_DISABLE_PLUGINS"
_THREADS = """
import os, threading
from conserver.process.imports import cheap_imports
end = threading.Event()
other = threading.Thread(target=end.wait)
other.start()
with cheap_imports():
    print("PYDANTIC_DISABLE_PLUGINS" in os.environ)
end.set()
other.join()
with cheap_imports():
    print("PYDANTIC_DISABLE_PLUGINS" in os.environ)
"""
_PLUGIN = """
class Plugin:
    def new_schema_validator(self, schema, schema_type, schema_type_path, *rest):
        print(schema_type_path.name)
        return None, None, None
plugin = Plugin()
"""


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, ["Theirs", "False"]),
        ({"PYDANTIC_DISABLE_PLUGINS": "another"}, ["Ours", "Theirs", "True"]),
    ],
)
def test_pydantic_plugins_see_the_models_of_others_alone(
    environ: dict[str, str], said: list[str], tmp_path: Path
) -> None:
    """Unless the environment says which plugins there are."""
    (tmp_path / "a_plugin.py").write_text(_PLUGIN)
    entry = tmp_path / "a_plugin-1.dist-info"
    entry.mkdir()
    (entry / "METADATA").write_text("Metadata-Version: 2.1\nName: a-plugin\nVersion: 1\n")
    (entry / "entry_points.txt").write_text("[pydantic]\nit = a_plugin:plugin\n")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYDANTIC_")}
    done = subprocess.run(
        [sys.executable, "-c", _MODELS],
        env=ours | {"PYTHONPATH": os.pathsep.join(paths)} | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (said, "")


def test_a_process_of_one_command_ends_without_a_search_for_garbage() -> None:
    """What a command leaves is frozen; a command that a test calls leaves all as it was."""
    script = (
        "import gc, sys\n"
        "from conserver.__main__ import main\n"
        "main(['--version'])\n"
        "made = [[] for _ in range(20_000)]\n"
        "before = gc.get_freeze_count()\n"
        "main(['--version'])\n"
        "assert gc.get_freeze_count() <= before\n"
        "sys.argv[1:] = ['--version']\n"
        "assert main() == 0\n"
        "assert gc.get_freeze_count() >= before + 20_000\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_environment_stays_as_it_is_while_other_threads_may_read_it() -> None:
    environ = {name: value for name, value in os.environ.items() if name != _VARIABLE}
    command = [sys.executable, "-c", _THREADS]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
