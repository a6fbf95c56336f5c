"""Faster imports for a process that starts, because imports take nearly all of a start's time."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_NO_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"


@contextmanager
def cheap_imports(*, opentelemetry: bool = False) -> Iterator[None]:
    """Let imports in this block take a fifth less CPU. No other thread may import meanwhile.

    - The garbage collector is off: imports create many objects, but nearly none that can be freed.
      These objects stay to the end of the process, so no later collection visits them (gc.freeze).
    - OpenTelemetry is hidden from redis-py, which would import it if it is installed (30 ms and 2
      MB in every process), for metrics that are off by default. OpenTelemetry is not hidden if a
      variable OTEL_... is set, or if it is imported already.
    - Pydantic looks for no plugins for the models in this block: to find them it reads the metadata
      of all installed packages (10 ms). The models of links and storages get their plugins. The
      variable that tells it is not set while other threads run: they may read the environment.

    Args:
        opentelemetry: do not hide OpenTelemetry, because a module needs it, as FastAPI does.
    """
    collects = gc.isenabled()
    gc.disable()
    used = opentelemetry or any(name.startswith("OTEL_") for name in os.environ)
    hides = not used and "opentelemetry" not in sys.modules
    if hides:
        sys.modules["opentelemetry"] = None  # type: ignore[assignment]
    skips_plugins = _NO_PLUGINS not in os.environ and threading.active_count() == 1
    if skips_plugins:
        os.environ[_NO_PLUGINS] = "__all__"
    known = len(sys.modules)
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if skips_plugins:
            del os.environ[_NO_PLUGINS]
        if hides:
            del sys.modules["opentelemetry"]
        if collects:
            gc.enable()
