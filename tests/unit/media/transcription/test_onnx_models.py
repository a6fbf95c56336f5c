"""Folders with models for onnx-asr, and what the link's options may ask of that engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from conserver.config.model import LinkConfig
from conserver.errors import ConfigError, Rejected
from conserver.links.transcribe import Options, prepare, speech_model
from conserver.media.transcription.engine import Listening, Model
from conserver.media.transcription.models import ModelMissingError
from conserver.media.transcription.onnx_models import FILES, find
from conserver.media.transcription.onnx_models import prepare as check
from conserver.media.transcription.request import Request
from conserver.plugins.loader import load_link


def make(folder: Path, model_type: str | None, *names: str) -> Path:
    """A folder with these files; those of a kind of model if none are named."""
    patterns = names or FILES[str(model_type)]
    for pattern in patterns:
        name = pattern.replace("{q}", "").replace("**/", "onnx/").replace("*/", "am/")
        path = folder / name.replace("v?_", "v2_").replace("*", "x")
        path.parent.mkdir(parents=True, exist_ok=True)
        empty = path.suffix == ".json"
        path.write_text("{}" if empty else "one 0\n")
    if model_type:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


def onnx(folder: Path, **members: Any) -> Model:
    return Model(str(folder), engine="onnx", **members)


def test_the_table_of_files_is_the_library_s_own(tmp_path: Path) -> None:
    code = (
        "import json, sys\n"
        "from onnx_asr.loader import create_asr_resolver\n"
        "from conserver.media.transcription.onnx_models import FILES\n"
        "for name, patterns in FILES.items():\n"
        "    kind = create_asr_resolver(name, sys.argv[1], offline=True).model_type\n"
        "    for wanted in (None, 'int8'):\n"
        "        theirs = set(kind._get_model_files(wanted).values())\n"
        "        q = f'?{wanted}' if wanted else ''\n"
        "        assert {one.format(q=q) for one in patterns} == theirs, name\n"
        "print(len(FILES))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"{len(FILES)}\n", "")


@pytest.mark.parametrize("model_type", sorted(FILES))
def test_every_kind_of_model_is_found(tmp_path: Path, model_type: str) -> None:
    folder = make(tmp_path / "mine", model_type)
    found = find(onnx(folder))
    assert found.model_type == model_type
    assert len(found.files) == len(FILES[model_type])
    assert found.size_bytes == sum(path.stat().st_size for path in found.files)


def test_weights_beside_the_graph_count(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine", "nemo-conformer-tdt")
    before = find(onnx(folder)).size_bytes
    (folder / "encoder-model.onnx.data").write_bytes(bytes(1000))
    assert find(onnx(folder)).size_bytes == before + 1000


def test_the_option_overrules_the_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine", "nemo-conformer-ctc", *FILES["gigaam-v2-rnnt"])
    assert find(onnx(folder, model_type="gigaam-v2-rnnt")).model_type == "gigaam-v2-rnnt"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "has no config.json that names the `model_type`; set it as an option"),
        ("{", "config.json cannot be read"),
        ("[]", "names no `model_type`"),
        ('{"model_type": 7}', "names no `model_type`"),
        ('{"model_type": "bert"}', "has a model of the type 'bert', which is none of gigaam"),
    ],
)
def test_a_folder_of_an_unknown_kind_is_refused(
    tmp_path: Path, content: str | None, told: str
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelMissingError, match=told):
        find(onnx(tmp_path))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMissingError, match=r"there is no folder /models/none \(looked in "):
        find(Model("/models/none", engine="onnx"))
    folder = make(tmp_path / "mine", "nemo-conformer-ctc", "model.int8.onnx", "vocab.txt")
    with pytest.raises(ModelMissingError, match=r"lacks model\.onnx; it has model\.int8\.onnx"):
        find(onnx(folder))
    assert find(onnx(folder, quantization="int8")).files[0].name == "model.int8.onnx"
    (folder / "model_int8.onnx").touch()
    with pytest.raises(ModelMissingError, match=r"fits several files \(model.int8.onnx, model_"):
        find(onnx(folder, quantization="int8"))
    (folder / "vocab.txt").unlink()
    with pytest.raises(ModelMissingError, match=r"it lacks vocab\.txt$"):
        find(onnx(make(folder, "nemo-conformer-ctc", "model.onnx")))


def test_the_language_must_be_one_that_the_model_knows(tmp_path: Path) -> None:
    canary = make(tmp_path / "canary", "nemo-conformer-aed")
    (canary / "vocab.txt").write_text("<|en|> 0\n<|de|> 1\n<|pnc|> 2\na 3\n")
    assert find(onnx(canary)).languages == ("de", "en")
    check(onnx(canary), Listening(language="de"))
    with pytest.raises(ConfigError, match="language: this model writes English unless it is told"):
        check(onnx(canary), Listening())
    with pytest.raises(ConfigError, match="language: the model knows no 'fr'; it knows de, en"):
        check(onnx(canary), Listening(language="fr"))
    whisper = make(tmp_path / "whisper", "whisper")
    (whisper / "added_tokens.json").write_text('{"<|en|>": 0, "<|fr|>": 1, "<|notimestamps|>": 2}')
    check(onnx(whisper), Listening())
    parakeet = make(tmp_path / "parakeet", "nemo-conformer-tdt")
    check(onnx(parakeet), Listening(language="fr"))


def test_preparing_starts_no_thread_and_imports_no_runtime(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine", "nemo-conformer-tdt")
    code = (
        "import os, sys\n"
        "from conserver.links import transcribe\n"
        "transcribe.prepare(transcribe.Options(model=sys.argv[1], engine='onnx'))\n"
        "assert 'av' in sys.modules and 'onnxruntime' not in sys.modules\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "1\n"


def test_where_the_package_is_missing_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path / "mine", "nemo-conformer-tdt")
    options = {"engine": "onnx", "model": str(folder)}
    link = load_link("hear", LinkConfig(module="links.transcribe", options=options))
    link.prepare()
    monkeypatch.setitem(sys.modules, "onnx_asr", None)
    with pytest.raises(
        ConfigError, match=r"`onnx_asr`, which .* \(pip install 'conserver\[onnx\]'\)"
    ):
        link.prepare()


# Options of the link.


def test_the_link_names_the_model_of_the_engine(tmp_path: Path) -> None:
    options = Options(model=str(tmp_path), engine="onnx", quantization="int8", model_type="vosk")
    assert speech_model(options) == onnx(tmp_path, quantization="int8", model_type="vosk")
    with pytest.raises(ConfigError, match=r"model: .* is no complete model of the type vosk"):
        prepare(options)


@pytest.mark.parametrize(
    "beyond",
    [
        {"translate": True}, {"multilingual": True}, {"prompt": "Ada"}, {"hotwords": "Ada"},
        {"temperature": [0, 0.4]}, {"beam_size": 2}, {"compute_type": "int8"},
        {"local_files_only": False}, {"cache_dir": "/models"},
    ],
)  # fmt: skip
def test_what_the_engine_cannot_do_is_refused(beyond: dict[str, Any]) -> None:
    (name,) = beyond
    with pytest.raises(ValidationError, match=f"engine: onnx has no {name}; engine: whisper has"):
        Options(model="m", engine="onnx", **beyond)


def test_a_model_that_is_not_there_is_told_before_what_the_engine_cannot_do() -> None:
    said = r"there is no folder /nowhere \(.*; and engine: onnx has no beam_size"
    with pytest.raises(ValidationError, match=said):
        Options(model="/nowhere", engine="onnx", beam_size=2)


def test_options_without_effect_are_refused_or_allowed() -> None:
    Options(model="m", engine="onnx", temperature=(0,), translate=False, channels_apart=True)
    with pytest.raises(ValidationError, match="quantization: only with engine: onnx"):
        Options(model="m", quantization="int8")
    with pytest.raises(ValidationError, match="with `server`, engine cannot be chosen here"):
        Options.model_validate({"model": "m", "engine": "onnx", "server": {"base_url": "http://x"}})


def test_a_vcon_gets_what_the_engine_can_do_of_its_wishes() -> None:
    options = Options(model="m", engine="onnx", language="en")
    wanted = Request(language="de", prompt="Ada", temperature=(0.5,), words=False)
    chosen, told = options.overruled(wanted)
    assert (chosen.language, chosen.words, chosen.prompt) == ("de", False, None)
    assert chosen.temperature == Options(model="m").temperature
    assert told == ["asked for, and not known to the engine: prompt, temperature"]
    with pytest.raises(Rejected, match="a translation is asked for"):
        options.overruled(Request(translate=True))
    chosen, told = Options(model="m").overruled(Request(translate=True, prompt="Ada"))
    assert (chosen.translate, chosen.prompt, told) == (True, "Ada", [])
