"""Makes a Problem of a fault that makes a plugin unusable: a missing package, or an exception."""

from __future__ import annotations

import importlib.util
import traceback

from pydantic import ValidationError

from conserver.config.validation import join_path
from conserver.errors import Problem

# The extra of Conserver that installs a package.
_EXTRAS = {
    "psycopg": "postgres",
    "boto3": "s3",
    "botocore": "s3",
    "pymongo": "mongo",
    "jq": "links",
    "httpx": "links",
    "faster_whisper": "speech",
    "ctranslate2": "speech",
    "av": "speech",
    "onnx_asr": "onnx",
    "numpy": "speech",
    "elasticsearch": "elasticsearch",
    "elastic_transport": "elasticsearch",
}

# Packages that several extras install. Each of these extras has the name of the plugin's module.
_COMMON_PACKAGES = frozenset({"urllib3"})

# Top-level modules of vcon-server, for which compat has stand-ins.
FOREIGN_MODULES = frozenset({"lib", "vcon", "redis_mgr", "settings", "dlq_utils"})
# Top-level packages of both projects. A module missing in them is one of vcon-server's.
_SHARED_MODULES = frozenset({"storage", "links", "conserver"})

_SAID_CHARS = 500
"""The longest text of an exception that is reported."""


def missing(error: ModuleNotFoundError, path: str, module: str) -> Problem:
    """The Problem of a plugin that imports a missing module."""
    name = error.name or "?"
    package = name.partition(".")[0]
    if package in FOREIGN_MODULES or package in _SHARED_MODULES:
        message = f"`{module}` needs `{name}` of vcon-server, which has no stand-in here"
        return Problem(path, message, "the module must do without it")
    extra = _EXTRAS.get(package)
    if package in _COMMON_PACKAGES:
        extra = module.rpartition(".")[2]
    hint = "install the package that brings it where Conserver runs"
    if extra:
        hint = f"pip install 'conserver[{extra}]'"
    elif name != package and importlib.util.find_spec(package) is not None:
        hint = f"`{package}` is installed; another package, or another version of it, brings this"
    return Problem(path, f"`{module}` needs the module `{name}`, which is not installed", hint)


def broken(error: BaseException, path: str, module: str, what: str) -> Problem:
    """The Problem of a plugin whose code raised. what: such as "cannot be imported"."""
    frames = traceback.extract_tb(error.__traceback__)
    hint = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    said = " ".join(_said(error).split())[:_SAID_CHARS]
    return Problem(path, f"`{module}` {what}: {type(error).__name__}: {said}".rstrip(": "), hint)


def _said(error: BaseException) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    # str(error) contains the values, which may be secrets.
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{join_path('', fault['loc'])}: {fault['msg']}" for fault in faults)
