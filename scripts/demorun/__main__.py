"""The order of things: arguments, the stage, the recordings, the result, what to try next."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from demorun import journey
from demorun.english import english_model
from demorun.journey import Recording
from demorun.show import Show
from demorun.stage import ROOT, TINY_MODEL, Model, Stage, StageError

CALLS = ROOT / "scripts" / "data" / "calls"
EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Transcribes, tags and stores recordings with a Conserver that is started for"
        " it and ended again; without FILE, the short calls that come with the checkout.",
    )
    parser.add_argument(
        "recordings", nargs="*", type=Path, metavar="FILE", help="recordings of your own"
    )
    parser.add_argument(
        "--model",
        default="",
        help="a folder with a faster-whisper model, or a name to fetch from the hub, such as"
        " `small` (default: tiny.en, which is installed, for FILEs; for the calls that come with"
        " the checkout a model that knows their 20 words)",
    )
    parser.add_argument(
        "--language", default="", help="what is spoken, such as `de` (default: found out)"
    )
    parser.add_argument(
        "--data", type=Path, default=ROOT / "demo-data", help="the folder for all that is written"
    )
    parser.add_argument(
        "--kill", action="store_true", help="kill the worker while it works, and see what happens"
    )
    parser.add_argument(
        "--stay", action="store_true", help="leave it running afterwards, until Ctrl-C"
    )
    parser.add_argument(
        "--search", metavar="QUERY", default="", help="only search what earlier demos have stored"
    )
    return parser.parse_args(list(words))


def main(words: Sequence[str]) -> int:
    """Returns 0 if every recording arrived, once, in every storage."""
    wanted = arguments(words)
    show = Show()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if wanted.search:
            return search(show, wanted.data, wanted.search)
        paths = wanted.recordings or [CALLS]
        missing = [path for path in paths if not path.exists()]
        if missing:
            show.error(f"there is no {', '.join(map(str, missing))}")
            return EXIT_USAGE
        return demonstrate(show, wanted, [path.resolve() for path in paths])
    except StageError as error:
        show.error(str(error))
        return EXIT_FAILURE
    except KeyboardInterrupt:
        show.error("interrupted; what was not done yet is done by the next demo")
        return EXIT_INTERRUPTED


def demonstrate(show: Show, wanted: argparse.Namespace, paths: Sequence[Path]) -> int:
    """Everything but the search."""
    english = english_model() if wanted.recordings and not wanted.model else None
    name = wanted.model or str(english or TINY_MODEL)
    folder = Path(name)
    model = Model(str(folder.resolve()) if folder.is_dir() else name, wanted.language)
    show.title()
    if english is not None:
        show.note("with the smallest model of English there is: --model small understands more")
    if wanted.recordings and model.is_tiny:
        show.note(
            "the model that comes with Conserver knows 20 English words, spoken by a computer:"
            " for real speech give --model small, or a folder"
        )
    with Stage(wanted.data, model, show.step) as stage:
        began_s = time.monotonic()
        with journey.held_back(stage) if wanted.kill else nullcontext():
            recordings = journey.submit(stage, paths)
        count = sum(1 for recording in recordings if recording.outcome == "waiting")
        show.step(f"conserver submit: {count} recordings are on the list `calls`")
        killed = kill(stage) if wanted.kill and count else 0
        with show.progress(count) as step:
            journey.follow(stage, recordings, step, show.note)
        took_s = time.monotonic() - began_s
        if killed:
            show.death(stage, killed)
        if wanted.stay:
            show.step(f"all done after {took_s:.1f} s")
            stay(show, stage)
        journey.collect(stage, recordings)
        if not wanted.stay:
            show.step(f"all done after {took_s:.1f} s; everything was stopped")
        show.recordings(stage, recordings)
        if word := longest_word(recordings):
            show.search(stage.database, word, journey.search(stage.database, word))
        show.next_steps(stage)
    return 0 if all(recording.arrived for recording in recordings) else EXIT_FAILURE


def kill(stage: Stage) -> int:
    """Kills the worker as soon as it is at work. Answers its pid."""
    journey.wait_until_at_work(stage)
    pid = stage.worker_pid()
    os.kill(pid, signal.SIGKILL)
    return pid


def stay(show: Show, stage: Stage) -> None:
    """Leaves everything running until Ctrl-C."""
    stage.wait_for_dashboard()
    show.stay(stage)
    try:
        while True:
            stage.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        return


def search(show: Show, folder: Path, query: str) -> int:
    """Searches the database of earlier demos; 1 if nothing is found."""
    path = folder / "vcons.db"
    if not path.exists():
        raise StageError(f"there is no {path} yet: run scripts/demo first")
    hits = journey.search(path, query)
    show.search(path, query, hits)
    return 0 if hits else EXIT_FAILURE


def longest_word(recordings: Sequence[Recording]) -> str:
    """A word worth searching for; empty if nobody has said any."""
    words = {
        word.lower()
        for recording in recordings
        for _, text in recording.lines
        for word in text.split()
        if word.isalpha()
    }
    return max(sorted(words), key=len, default="")


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
