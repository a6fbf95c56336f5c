"""Which transcribers there are, and the threads that keep them at work."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from conserver.config import model as configuration
from conserver.config.settings import Settings
from conserver.media.speech.devices import cpu_environment, gpus
from conserver.media.transcription.engine import Model
from conserver.process.shared_status import State
from conserver.supervisor.child import Child
from conserver.supervisor.transcribers import (
    TranscriberSlot,
    devices_of,
    for_workers,
    transcriber_state,
)
from tests.unit.supervisor.test_slots import Living

NEW = "glibc 2.36"
AUTO, ON_CPU = Model("small"), Model("small", device="cpu")


@pytest.mark.parametrize(
    ("files", "environ", "found"),
    [
        ([], {}, []),
        (["nvidia0", "nvidia1", "nvidia10", "nvidiactl", "null"], {}, ["0", "1", "10"]),
        (["nvidia0", "nvidia1"], {"CUDA_VISIBLE_DEVICES": "1"}, ["1"]),
        (["nvidia0"], {"CUDA_VISIBLE_DEVICES": ""}, []),
        (["nvidia0", "nvidia1"], {"CUDA_VISIBLE_DEVICES": "1,-1,0"}, ["1"]),
        (["nvidia0"], {"CUDA_VISIBLE_DEVICES": "GPU-8932f937"}, ["GPU-8932f937"]),
        ([], {"CUDA_VISIBLE_DEVICES": "0"}, []),
    ],
)
def test_gpus_are_found_by_their_device_files(
    tmp_path: Path, files: list[str], environ: dict[str, str], found: list[str]
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert gpus(environ, tmp_path) == found


@pytest.mark.parametrize(
    ("kernel", "environ", "library", "found"),
    [
        ("[madvise] never", {}, NEW, ["CT2_USE_MKL", "GLIBC_TUNABLES"]),
        ("[madvise] never", {"CT2_USE_MKL": "0"}, NEW, ["CT2_USE_MKL", "GLIBC_TUNABLES"]),
        # MKL takes much more memory in huge pages.
        ("[madvise] never", {"CT2_USE_MKL": "1"}, NEW, []),
        ("[madvise] never", {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, NEW, []),
        ("madvise [never]", {}, NEW, []),
        # With small pages MKL is much faster.
        ("[madvise] never", {}, "glibc 2.31", []),
        ("[madvise] never", {}, "", []),
    ],
)
def test_on_a_cpu_huge_pages_and_no_mkl_go_together(
    tmp_path: Path, kernel: str, environ: dict[str, str], library: str, found: list[str]
) -> None:
    (tmp_path / "enabled").write_text(kernel)
    assert sorted(cpu_environment(environ, tmp_path / "enabled", library)) == found


def test_one_that_has_calls_works_and_one_that_starts_does_not() -> None:
    """What the status shows: its own state says only whether it serves."""
    slot, child = TranscriberSlot(1, ""), Living()
    try:
        slot.start(cast("Child", child), 1)
        states = [transcriber_state(slot)["state"]]
        child.ready = True
        slot.status.state = State.IDLE
        for busy in (0, 2):
            slot.status.set_calls(8, busy, 0)
            states.append(transcriber_state(slot)["state"])
    finally:
        slot.close()
    assert states == ["starting", "idle", "working"]


@pytest.mark.parametrize(("wanted", "count"), [(None, 1), (0, 0), (2, 2)])
def test_without_gpus_there_is_one_on_the_cpu_or_as_many_as_are_wanted(
    wanted: int | None, count: int
) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": ""}
    assert devices_of(Settings(transcribers=wanted), [AUTO], environ) == [""] * count
    assert devices_of(Settings(transcribers=wanted), [ON_CPU], {}) == [""] * count


def test_chains_that_transcribe_get_threads_and_others_keep_theirs() -> None:
    links = {"hear": {"module": "links.transcribe"}, "tag": {"module": "links.tag"}}
    chains = {
        "calls": {"links": ["tag", "hear"], "ingress_lists": ["calls"]},
        "own": {"links": ["hear"], "ingress_lists": ["own"], "concurrency": 2},
        "tags": {"links": ["tag"], "ingress_lists": ["tags"]},
    }
    config = configuration.Config.model_validate({"links": links, "chains": chains})
    settings = Settings(workers=4, max_concurrent_requests=12)
    wider, widened = for_workers(settings, config, {"hear": ON_CPU}, [""])
    assert wider.vcon_concurrency == 4
    assert [widened.chains[name].concurrency for name in chains] == [None, 2, 1]
    assert for_workers(settings, config, {}, [""]) == (settings, config)
    assert for_workers(settings, config, {"hear": ON_CPU}, []) == (settings, config)
