"""A model is found on this machine, or the message says where it was looked for."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conserver.errors import ConfigError, Retry
from conserver.media.transcription import whisper
from conserver.media.transcription.engine import Model
from conserver.media.transcription.models import ModelMissingError, find_model

ROOT = Path(__file__).parents[4]


def make_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("config.json", "model.bin", "tokenizer.json"):
        (folder / name).write_text("{}")
    return folder


def test_a_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_model(tmp_path / "models" / "mine")
    assert find_model(Model(str(folder))) == str(folder)
    monkeypatch.chdir(tmp_path)
    assert find_model(Model("models/mine")) == "models/mine"


def test_a_folder_wins_over_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(tmp_path / "small")
    monkeypatch.chdir(tmp_path)
    assert find_model(Model("small")) == "small"


def test_an_incomplete_folder_says_what_it_lacks(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "mine")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelMissingError, match=r"it lacks tokenizer\.json"):
        find_model(Model(str(folder)))


@pytest.mark.parametrize("name", ["./models/none", "/models/none", "~/none", "a/b/c"])
@pytest.mark.parametrize("local_files_only", [True, False])
def test_a_path_that_does_not_exist_is_never_looked_up(name: str, local_files_only: bool) -> None:
    with pytest.raises(ModelMissingError, match="there is no folder "):
        find_model(Model(name, local_files_only=local_files_only))


def test_a_name_that_is_no_size_is_told_the_sizes() -> None:
    with pytest.raises(
        ModelMissingError, match=r"'smal' is neither a folder .* nor a size: .*small"
    ):
        find_model(Model("smal"))


@pytest.mark.parametrize("name", ["small", "owner/name"])
def test_a_name_is_looked_for_in_the_cache_only(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelMissingError, match=f"{name}.*nor in {tmp_path}.*local_files_only"):
        find_model(Model(name, cache_dir=str(tmp_path)))


def test_a_model_in_the_cache_is_found(tmp_path: Path) -> None:
    cached = tmp_path / "models--owner--name"
    make_model(cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    found = find_model(Model("owner/name", cache_dir=str(tmp_path)))
    assert found == str(cached / "snapshots" / "abc")


def test_what_cannot_be_fetched_is_tried_again_later(tmp_path: Path) -> None:
    # The tests run with HF_HUB_OFFLINE=1: to the library, the network is away.
    with pytest.raises(Retry, match="owner/name cannot be fetched"):
        find_model(Model("owner/name", local_files_only=False, cache_dir=str(tmp_path)))


def test_a_missing_model_is_a_configuration_error_at_boot() -> None:
    with pytest.raises(ConfigError, match="model: there is no folder") as caught:
        whisper.prepare(Model("/models/none"))
    assert caught.value.problems[0].path == "model"


@pytest.mark.parametrize("name", ["/models/none", "smal"])
def test_what_no_network_could_bring_is_found_out_at_the_start(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        whisper.prepare(Model(name, local_files_only=False))


def test_a_missing_model_is_tried_again_at_run_time() -> None:
    with pytest.raises(Retry, match=r"/models/none cannot be loaded on auto: there is no folder"):
        whisper.shared(Model("/models/none"))


def test_a_broken_model_is_tried_again_at_run_time(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "mine")
    with pytest.raises(Retry, match="mine cannot be loaded on cpu"):
        whisper.shared(Model(str(folder), device="cpu"))


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys\n"
        "import conserver.links.transcribe\n"
        "print([name for name in ('numpy', 'av', 'ctranslate2', 'faster_whisper', 'onnxruntime',"
        " 'huggingface_hub', 'tqdm') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=110
    )
    assert answer.stdout == "[]\n"


def test_preparing_starts_no_thread_and_opens_no_socket(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "mine")
    code = (
        "import os, sys\n"
        "from conserver.links import transcribe\n"
        "before = set(os.listdir('/proc/self/fd'))\n"
        "transcribe.prepare(transcribe.Options(model=sys.argv[1]))\n"
        "assert 'faster_whisper' in sys.modules and 'av' in sys.modules\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "print(len(os.listdir('/proc/self/task')), set(os.listdir('/proc/self/fd')) - before)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True, text=True, check=True, timeout=110,
    )  # fmt: skip
    assert answer.stdout == "1 set()\n"


def test_the_cuda_library_of_a_python_package_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "nvidia" / "cublas" / "lib"
    folder.mkdir(parents=True)
    # Any shared library serves; it is not called.
    library = importlib.util.find_spec("orjson.orjson")
    assert library is not None
    assert library.origin is not None
    shutil.copy(library.origin, folder / "libcublas.so.12")
    code = (
        "from pathlib import Path\n"
        "from conserver.media.transcription.whisper import load_cublas\n"
        "load_cublas()\n"
        "print('libcublas.so.12' in Path('/proc/self/maps').read_text())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=110,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )  # fmt: skip
    assert answer.stdout == "True\n"
