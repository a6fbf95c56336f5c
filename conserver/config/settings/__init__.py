"""The settings: environment variables, read once at the start, validated and frozen.

1. Each subject declares its variables in a file of its own, with their types (setting_types.py),
   defaults and one-line descriptions. `conserver settings` and docs/configuration.md are generated
   from these declarations.
2. `load` reads the values from a mapping that the caller passes (`os.environ` in the daemon, a dict
   in tests) and reports all problems together.

    daemon           Redis, the file, processes, logs; time limits of a start, a stall and a stop
    speech           the processes that hold speech models
    documents        the processes that read pages
    limits           expiries and sizes of the data in Redis; when workers are recycled
    api              the HTTP API: address, tokens, rates
    vcon_server      the routes that vcon-server has, too
    dashboard        logins, and who sees the contents of vCons
    metrics          the address of /metrics
    uploads          uploaded recordings
    callbacks        the callbacks of jobs, and the secrets that sign webhooks
    part             the base class of the files above

An empty variable counts as not set, because compose files write `${NAME:-}` for optional ones.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ConfigDict, ValidationError

from conserver.config.settings.api import Api
from conserver.config.settings.callbacks import Callbacks
from conserver.config.settings.daemon import Daemon
from conserver.config.settings.dashboard import Dashboard
from conserver.config.settings.documents import Documents
from conserver.config.settings.limits import Limits
from conserver.config.settings.metrics import Metrics
from conserver.config.settings.speech import Speech
from conserver.config.settings.uploads import Uploads
from conserver.config.settings.vcon_server import VconServer
from conserver.config.validation import problems_of
from conserver.errors import ConfigError, Problem


class Settings(
    Callbacks,
    Uploads,
    Metrics,
    Dashboard,
    VconServer,
    Api,
    Limits,
    Documents,
    Speech,
    Daemon,
):
    """All settings. Frozen, because a change needs a restart.

    Pydantic lists the fields of the last base first, so the documentation begins with Daemon's.
    """

    model_config = ConfigDict(defer_build=False)

    @property
    def measures(self) -> bool:
        """Whether processes count metrics: only if a port serves /metrics."""
        return bool(self.metrics_port or self.api_port)


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting, for documentation."""

    name: str
    field: str
    default: str
    meaning: str


def variables() -> list[Variable]:
    """All settings in the order of their declaration, for docs and `conserver settings`."""
    return [
        Variable(_variable(name), name, _default_text(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def load(environ: Mapping[str, str]) -> Settings:
    """Read the settings from `environ`.

    Raises:
        ConfigError: all variables with invalid values.
    """
    names = {_variable(field): field for field in Settings.model_fields}
    given = {field: environ[name] for name, field in names.items() if environ.get(name, "").strip()}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        faults = problems_of(error, Settings, given)
        named = [
            Problem(_variable(fault.path), fault.message, fault.hint)
            if fault.path in given
            else fault
            for fault in faults
        ]
        raise ConfigError(named, "the environment") from None


def misspelt(environ: Mapping[str, str]) -> list[Problem]:
    """Problems for variables that are probably misspelt settings, such as CONSERVER_WORKER.

    Only close matches are reported, because Kubernetes sets CONSERVER_PORT and others for a service
    of this name, and a config file may use any variable.
    """
    ours = {_variable(field) for field in Settings.model_fields}
    found = []
    for name in sorted(environ):
        if not name.startswith(("CONSERVER_", "VCON_")) or name in ours:
            continue
        near = difflib.get_close_matches(name, ours, n=1, cutoff=0.9)
        if near:
            found.append(Problem(name, "is no setting", f"did you mean `{near[0]}`?"))
    return found


def _variable(field: str) -> str:
    extra = Settings.model_fields[field].json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["variable"])


def _default_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
