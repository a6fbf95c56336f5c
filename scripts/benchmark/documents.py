"""How well and how fast documents are read, on papers with a known text (benchmark.papers).

  scripts/bench documents                       both rows
  scripts/bench documents --rows cores --rounds 3
  scripts/bench documents --rows errors --other PYTHON

errors   character error rates of a text layer, a clean scan, a skewed scan at 150 dpi and a fax,
         and the CPU time of a page; with --other, also of the package rapidocr-onnxruntime in the
         environment of that Python
cores    20 scanned pages of four lines with one page reader and with two, in turn: the ratio of
         their wall times; and of what is left of them without the time that the readers waited for
         a core, which other programs had (by the kernel's count)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark import papers
from conserver.media.extraction import client
from conserver.media.extraction.client import Following
from conserver.media.extraction.ocr import Ocr
from conserver.media.extraction.pages import Limits
from conserver.media.extraction.pool import OwnReaders

PAGES = 20
SIZES_PT = (11, 7)
_DETAIL_PX = 2000
_LINES = 4
_TEXT = "\n".join(papers.LINES)

# What the other package is asked to do: lines of text in its own order.
_OTHER = """
import json, sys, time
from rapidocr_onnxruntime import RapidOCR
engine = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)
for path in json.load(sys.stdin):
    engine(path, use_cls=False)
    began_s = time.process_time()
    lines, _ = engine(path, use_cls=False)
    spent_s = time.process_time() - began_s
    print(json.dumps({"text": "\\n".join(one[1] for one in lines or []), "cpu_s": spent_s}))
"""


def main(words: Sequence[str]) -> int:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench documents",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", default="errors,cores", help="errors, cores or both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pages", type=int, default=PAGES)
    parser.add_argument("--other", default="", help="a Python with rapidocr-onnxruntime")
    asked = parser.parse_args(words)
    for name in asked.rows.split(","):
        if name == "errors":
            errors(asked.other)
        else:
            cores(asked.pages, asked.rounds)
    return 0


def cases() -> dict[str, tuple[bytes, Any]]:
    """Each kind of paper as a file, and as a picture; None where none is recognized."""
    found: dict[str, tuple[bytes, Any]] = {}
    for size_pt in SIZES_PT:
        scan, skewed, fax = (
            make(size_pt=size_pt) for make in (papers.scan, papers.skewed_scan, papers.fax)
        )
        name = f"{size_pt} pt"
        found[f"text layer, {name}"] = papers.pdf(size_pt=size_pt), None
        found[f"clean scan, 300 dpi, {name}"] = papers.pdf_of_pictures([scan]), scan
        found[f"skewed scan, 150 dpi, {name}"] = papers.encoded(skewed, "PNG"), skewed
        square = fax.convert("L").resize((fax.width, round(fax.height * 204 / 98)))
        found[f"fax, 204 x 98 dpi, {name}"] = papers.fax_file([fax]), square
    return found


def errors(other: str) -> None:
    """The character error rates of each kind of paper."""
    papers_by_name = cases()
    readers = OwnReaders(1)
    try:
        for name, (content, _) in papers_by_name.items():
            found = client.read(content, Limits(), Following(), readers)
            page = found.pages[0]
            rate = papers.error_rate(_TEXT, page.text)
            print(f"{name:32} {page.source:10} errors {rate:7.2%}  sure {page.confidence:.3f}")
    finally:
        readers.close()
    pictures = {name: one for name, (_, one) in papers_by_name.items() if one is not None}
    _compare("rapidocr, as we use it", _ours(pictures))
    print(f"  memory at its highest: {_peak_mib()} MiB")
    if other:
        _compare("rapidocr-onnxruntime", _theirs(other, pictures))


def _ours(pictures: dict[str, Any]) -> dict[str, tuple[str, float]]:
    import numpy as np

    recognize, found = Ocr(), {}
    for name, picture in pictures.items():
        array = np.asarray(_fitted(picture).convert("L"))
        recognize(array, _DETAIL_PX)
        began_s = time.process_time()
        text = recognize(array, _DETAIL_PX).text
        found[name] = text, time.process_time() - began_s
    return found


def _theirs(python: str, pictures: dict[str, Any]) -> dict[str, tuple[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, picture in enumerate(pictures.values()):
            paths.append(f"{folder}/{number}.png")
            _fitted(picture).save(paths[-1])
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        answer = subprocess.run(
            [python, "-c", _OTHER],
            input=json.dumps(paths), capture_output=True, text=True, check=True, env=environ,
        )  # fmt: skip
    lines = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]
    pairs = zip(pictures, lines, strict=True)
    return {name: (one["text"], one["cpu_s"]) for name, one in pairs}


def _fitted(picture: Any) -> Any:
    scale = min(1.0, _DETAIL_PX / max(picture.size))
    return picture.resize((round(picture.width * scale), round(picture.height * scale)))


def _compare(package: str, found: dict[str, tuple[str, float]]) -> None:
    print(f"\n{package}")
    for name, (text, cpu_s) in found.items():
        rate = papers.error_rate(_TEXT, text)
        print(f"  {name:32} errors {rate:7.2%}  CPU {cpu_s:5.2f} s")


def cores(pages: int, rounds: int) -> None:
    """Scanned pages with one reader and with two, in turn."""
    page = papers.scan(150, lines=papers.LINES[:_LINES])
    page = page.crop((0, 0, page.width, page.height * 24 // 100))
    content = papers.pdf_of_pictures([page] * pages)
    contenders = {count: OwnReaders(count) for count in (1, 2)}
    took_s: dict[int, list[float]] = {count: [] for count in contenders}
    free_s: dict[int, list[float]] = {count: [] for count in contenders}
    try:
        for readers in contenders.values():  # Models are loaded before the clock runs.
            client.read(content, Limits(), Following(), readers)
        before_s = {count: _cpu_s(readers.pids) for count, readers in contenders.items()}
        for _ in range(rounds):
            for count, readers in contenders.items():
                began_s, waited_s = time.monotonic(), _waited_s(readers.pids)
                client.read(content, Limits(), Following(), readers)
                took_s[count].append(time.monotonic() - began_s)
                waits_s = (_waited_s(readers.pids) - waited_s) / count
                free_s[count].append(took_s[count][-1] - waits_s)
                print(
                    f"{pages} pages, {count} page readers: {took_s[count][-1]:.1f} s, of which each"
                    f" waited {waits_s:.1f} s for a core",
                    flush=True,
                )
        for count, readers in contenders.items():
            spent_s = (_cpu_s(readers.pids) - before_s[count]) / (pages * rounds)
            print(f"{count} page readers: {spent_s:.2f} s of CPU per page")
    finally:
        for readers in contenders.values():
            readers.close()
    for found_s, how in ((took_s, "by the clock"), (free_s, "without the waits for a core")):
        ratios = [one / two for one, two in zip(found_s[1], found_s[2], strict=True)]
        print(f"two readers are {statistics.median(ratios):.2f} times as fast as one, {how}")
    print("(the clock says something only if two cores had nothing else to do)")


def _waited_s(pids: Sequence[int]) -> float:
    """How long these processes were ready to run and had no core (Linux: sched-stats.rst)."""
    waited_ns = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            waited_ns += int(path.read_text().split()[1])
    return waited_ns / 1e9


def _cpu_s(pids: Sequence[int]) -> float:
    """The time of the CPU that these processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak_mib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) >> 10
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
