"""The manifests of scripts/kubernetes, as kustomize puts them together."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import absent

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "scripts" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())

Manifest = dict[str, Any]


@functools.cache
def built(overlay: str) -> list[Manifest]:
    """The objects of an overlay. Not to be changed. Skips where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        absent("kubectl is not installed; its kustomize puts the overlays together")
    folder = KUBERNETES / "overlays" / overlay
    command = [kubectl, "kustomize", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def named(overlay: str, kind: str, name: str) -> Manifest:
    """One object of an overlay."""
    found = [o for o in built(overlay) if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{kind} {name} in {overlay}"
    return found[0]


def of_kind(overlay: str, kind: str) -> list[Manifest]:
    """All objects of a kind."""
    return [one for one in built(overlay) if one["kind"] == kind]


def container(deployment: Manifest) -> Manifest:
    """The only container of a deployment's pods."""
    [found] = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def environment(deployment: Manifest) -> dict[str, str]:
    """The variables of a deployment's container."""
    return {one["name"]: one["value"] for one in container(deployment).get("env", ())}
