"""Recognizes the text in a picture of a page, by rapidocr with the models in its wheel.

rapidocr gets the paths of the models, because otherwise it would download them. One model
(PP-OCRv6) knows Latin, Chinese and Japanese scripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conserver.errors import Retry
from conserver.media.extraction import layout
from conserver.media.extraction.layout import Quad
from conserver.media.extraction.pages import Recognized

# If the mean confidence of the lines is lower, the page may be upside down.
_UPRIGHT_CONFIDENCE = 0.8
# Lines with a lower confidence are dropped as noise: specks, stamps, handwriting.
_LINE_CONFIDENCE = 0.5
# A box whose height is more than this many times its width contains a vertical line of text.
_VERTICAL = 1.5
_SIDE_MIN_PX = 48
_DETECTION_PX = 1280


class Ocr:
    """The OCR models of one process. They are loaded at the first page. Not thread-safe."""

    def __init__(self, gpu: int | None = None) -> None:
        """gpu: the CUDA device to use; None for the CPU."""
        self._gpu = gpu
        self._engine: Any = None

    @property
    def loaded(self) -> bool:
        """Whether the models are in memory."""
        return self._engine is not None

    def __call__(self, picture: Any, side_px: int) -> Recognized:
        """Recognize a page of gray levels: a `pages.Recognize`.

        Raises:
            Retry: the models cannot be loaded on this machine.
        """
        engine = self._load()
        engine.max_side_len = side_px
        upright = self._read(engine, _padded(picture))
        if upright.confident:
            return upright.recognized(0)
        # Vertical lines: the page lies on its side. Otherwise it may be upside down.
        sideways = upright.vertical_share > 0.5
        turns = (3, 1) if sideways else (2,)
        best, turned = upright, 0
        for turn in turns:
            tried = self._read(engine, _turned(_padded(picture), turn))
            if tried.score > best.score:
                best, turned = tried, turn
            if tried.confident:
                break
        return best.recognized(turned * 90)

    def _read(self, engine: Any, picture: Any) -> _Reading:
        found = engine(picture)
        if not found.txts or found.boxes is None:
            return _Reading([], [], [])
        return _Reading(found.boxes.tolist(), list(found.txts), [float(s) for s in found.scores])

    def _load(self) -> Any:
        if self._engine is None:
            try:
                self._engine = _engine(self._gpu)
            except Exception as error:
                # The machine is at fault (package, installation, GPU), never the page.
                raise Retry(None, f"the OCR models cannot be loaded: {error}") from error
        return self._engine


class _Reading:
    """The result of OCR for one rotation of the picture."""

    def __init__(self, quads: list[Any], texts: list[str], scores: list[float]) -> None:
        vertical = [_height(quad) > _VERTICAL * _width(quad) for quad in quads]
        self.vertical_share = sum(vertical) / len(vertical) if vertical else 0.0
        self.mean = _mean(scores, texts)
        # A wrongly turned page gives few characters, with low confidence.
        self.score = sum(s * s * len(text) for s, text in zip(scores, texts, strict=True))
        if self.vertical_share > 0.5:
            self.score /= 2
        lines = zip(quads, texts, scores, strict=True)
        self._sure = [line for line in lines if line[2] >= _LINE_CONFIDENCE]

    @property
    def confident(self) -> bool:
        """Whether no other rotation has to be tried."""
        return self.vertical_share <= 0.5 and self.mean >= _UPRIGHT_CONFIDENCE

    def recognized(self, rotation: int) -> Recognized:
        """The lines with enough confidence, in reading order."""
        if not self._sure:
            return Recognized("", 0.0)
        quads, texts, scores = zip(*self._sure, strict=True)
        text = layout.text_of(quads, texts)
        mean = _mean(scores, texts)
        return Recognized(text, round(mean, 4), rotation)


def product() -> str:
    """The OCR software, for the analysis: "rapidocr 3.10.0 (PP-OCRv6 small)"."""
    from importlib.metadata import version

    return f"rapidocr {version('rapidocr')} (PP-OCRv6 small)"


def model_files() -> dict[str, Path]:
    """The models in rapidocr's wheel. Raises FileNotFoundError: this version lacks them."""
    import rapidocr

    folder = Path(rapidocr.__file__).parent / "models"
    files = {"Det": "PP-OCRv6_det_small.onnx", "Rec": "PP-OCRv6_rec_small.onnx"}
    found = {name: folder / file for name, file in files.items()}
    for path in found.values():
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: install 'conserver[documents]'")
    return found


def _engine(gpu: int | None) -> Any:
    import cv2
    import rapidocr

    cv2.setNumThreads(1)  # There is a page reader for each core.
    return rapidocr.RapidOCR(params=parameters(gpu))


def parameters(gpu: int | None) -> dict[str, Any]:
    """The parameters for rapidocr. gpu: the CUDA device; None for the CPU.

    Raises:
        FileNotFoundError: the models are not there.
    """
    models = {f"{name}.model_path": str(path) for name, path in model_files().items()}
    threads = "EngineConfig.onnxruntime"
    params: dict[str, Any] = {
        **models,
        "Global.log_level": "error",
        "Global.use_cls": False,  # It rotates single lines, but here the whole page is rotated.
        "Global.text_score": 0.0,
        # Lines are detected in a smaller picture. This halves the time without more errors.
        "Det.limit_type": "max",
        "Det.limit_side_len": _DETECTION_PX,
        f"{threads}.intra_op_num_threads": 1,
        f"{threads}.inter_op_num_threads": 1,
    }
    if gpu is not None:
        params |= {f"{threads}.use_cuda": True, f"{threads}.cuda_ep_cfg.device_id": gpu}
    return params


def _padded(picture: Any) -> Any:
    """The picture with a white margin, which makes it large enough for the detector."""
    import numpy as np

    height, width = picture.shape[:2]
    missing = max(0, _SIDE_MIN_PX - height), max(0, _SIDE_MIN_PX - width)
    if not any(missing):
        return picture
    return np.pad(picture, ((0, missing[0]), (0, missing[1])), constant_values=255)


def _turned(picture: Any, turn: int) -> Any:
    """The picture turned to the right by `turn` quarters."""
    import numpy as np

    return np.ascontiguousarray(np.rot90(picture, -turn))


def _mean(scores: Sequence[float], texts: Sequence[str]) -> float:
    """The mean confidence of the lines, weighted by their lengths."""
    characters = sum(map(len, texts))
    total = sum(score * len(text) for score, text in zip(scores, texts, strict=True))
    return total / characters if characters else 0.0


def _width(quad: Quad) -> float:
    return abs(quad[1][0] - quad[0][0]) + abs(quad[1][1] - quad[0][1])


def _height(quad: Quad) -> float:
    return abs(quad[3][0] - quad[0][0]) + abs(quad[3][1] - quad[0][1])
