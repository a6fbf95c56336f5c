"""Shows the configuration file without its secrets, and replaces it.

`replace` writes the new file beside the old one, and checks it as `conserver check` does. Only if
the check finds no fault, the new file replaces the old one in one step. The old file is kept as
<file>.before, because the new file is written from data and has no comments.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import yaml

from conserver.config.file import read_text, read_yaml
from conserver.config.settings import Settings
from conserver.errors import ConfigError, OperationError, Problem
from conserver.operations import audit
from conserver.operations.connection import Client
from conserver.telemetry.redact import HIDDEN, redact_fields, redact_text

CHECK_S_MAX = 60.0
_KEYS = "ingress_auth"


def shown(path: str) -> dict[str, Any]:
    """The data of the file, with `***` for secrets. Variables in it are not expanded.

    Raises:
        ConfigError: the file cannot be read, or is no YAML.
    """
    return _hidden(_read(path))


def replace(
    client: Client,
    settings: Settings,
    environ: Mapping[str, str],
    data: Mapping[str, Any],
    *,
    actor: str,
) -> None:
    """Replace the configuration file by new data. Hosts use it only after a reload.

    A `***` in `data`, as `shown` returns it, keeps the secret that the file has at that place.

    Args:
        environ: the environment variables for the check.

    Raises:
        ConfigError: the new data has faults; the file is unchanged.
        OperationError: "failed": the file cannot be written, or the check did not end.
    """
    path = Path(settings.config_file)
    faults: list[Problem] = []
    whole = _revealed(data, _read(str(path)) if path.exists() else {}, "", faults)
    if faults:
        raise ConfigError(faults, "the new configuration")
    text = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".yml")
        fresh = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            _check(fresh, environ)
            if path.exists():
                shutil.copymode(path, fresh)
                shutil.copy2(path, path.with_name(path.name + ".before"))
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        detail = f"{path} cannot be written: {error.strerror or error}"
        raise OperationError(detail, "failed") from None
    audit.record(client, actor, "configure", {"file": str(path)}, 1)


def _check(path: Path, environ: Mapping[str, str]) -> None:
    """Run `conserver check` in a child process, because the imported plugins may be large, or may
    crash.
    """
    command = [sys.executable, "-m", "conserver", "check", "--json", "--config", str(path)]
    try:
        done = subprocess.run(
            command, env=dict(environ), capture_output=True, timeout=CHECK_S_MAX, check=False
        )
        told = orjson.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise OperationError(f"the check takes more than {CHECK_S_MAX:g} s", "failed") from None
    except orjson.JSONDecodeError:
        raise OperationError("the check has broken; `conserver check` says why", "failed") from None
    if told["problems"]:
        raise ConfigError([Problem(**one) for one in told["problems"]], "the new configuration")


def _read(path: str) -> dict[str, Any]:
    data, _ = read_yaml(read_text(path), path)
    return data


def _hidden(data: dict[str, Any]) -> dict[str, Any]:
    given = data.get(_KEYS)
    found: Any = redact_fields({name: part for name, part in data.items() if name != _KEYS})
    if isinstance(given, dict):  # its keys are names of lists, and no secrets
        found[_KEYS] = {name: _without_keys(keys) for name, keys in given.items()}
    return dict(found)


def _without_keys(keys: object) -> object:
    return [HIDDEN for _ in keys] if isinstance(keys, list) else HIDDEN


def _revealed(given: Any, before: Any, path: str, faults: list[Problem]) -> Any:
    """`given`, with each `***` replaced by the value that `before` has at the same place."""
    if isinstance(given, Mapping):
        known = before if isinstance(before, Mapping) else {}
        return {
            name: _revealed(part, known.get(name), f"{path}.{name}".lstrip("."), faults)
            for name, part in given.items()
        }
    if isinstance(given, list):
        parts = before if isinstance(before, list) and len(before) == len(given) else []
        parts = parts or [None] * len(given)
        return [
            _revealed(part, old, f"{path}[{number}]", faults)
            for number, (part, old) in enumerate(zip(given, parts, strict=True))
        ]
    if not isinstance(given, str) or HIDDEN not in given:
        return given
    whole = given == HIDDEN and before is not None
    if whole or (isinstance(before, str) and given == redact_text(before)):
        return before
    faults.append(Problem(path, f"is `{given}`, and the file has no secret there to keep"))
    return given
