"""What the recognizer is told: its models by their paths, one thread, and which GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from conserver.media.extraction.ocr import parameters
from conserver.media.extraction.service import take_gpu

CUDA = {"EngineConfig.onnxruntime.use_cuda", "EngineConfig.onnxruntime.cuda_ep_cfg.device_id"}


@pytest.fixture
def rapidocr() -> Path:
    """The folder of the package."""
    return Path(pytest.importorskip("rapidocr").__file__).parent


@pytest.mark.parametrize("gpu", [None, 0, 3])
def test_a_gpu_is_used_where_there_is_one(rapidocr: Path, gpu: int | None) -> None:
    told = parameters(gpu)
    given = {name: told[name] for name in CUDA & told.keys()}
    assert set(given.values()) == (set() if gpu is None else {True, gpu})
    assert len(given) == (0 if gpu is None else 2)


def test_what_is_told_are_settings_that_the_package_knows(rapidocr: Path) -> None:
    """A name that it has not would be passed over, and its default would hold."""
    yaml = pytest.importorskip("yaml")
    known = yaml.safe_load((rapidocr / "config.yaml").read_text())
    for name in parameters(0):
        section = known
        for part in name.split("."):
            assert part in section, f"{name}: {part} is not known"
            section = section[part]


def test_nothing_is_looked_for_in_the_network_and_each_process_has_a_thread(rapidocr: Path) -> None:
    told = parameters(None)
    models = [path for name, path in told.items() if name.endswith("model_path")]
    assert len(models) == 2
    assert all(Path(path).is_file() for path in models)
    threads = [value for name, value in told.items() if name.endswith("op_num_threads")]
    assert threads == [1, 1]


@pytest.mark.parametrize("device", ["1", "GPU-8932f937"])
def test_a_reader_sees_its_gpu_alone_whatever_it_is_called(device: str) -> None:
    """CUDA numbers anew what it may see: the only one is 0."""
    environ = {"CUDA_VISIBLE_DEVICES": "1,GPU-8932f937"}
    assert take_gpu(device, environ) == 0
    assert environ == {"CUDA_VISIBLE_DEVICES": device}


def test_a_reader_without_a_gpu_leaves_the_environment_alone() -> None:
    environ: dict[str, str] = {}
    assert take_gpu("", environ) is None
    assert environ == {}
