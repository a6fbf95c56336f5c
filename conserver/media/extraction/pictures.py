"""Reads pictures of pages with Pillow: PNG, JPEG, TIFF (also several pages), WebP, BMP, GIF."""

from __future__ import annotations

from typing import Any

from conserver.media.extraction import language
from conserver.media.extraction.pages import Limits, Page, Recognize, Refused

_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
# Pixels of a fax are up to twice as high as wide. A larger ratio comes from wrong metadata.
_STRETCH_MIN, _STRETCH_MAX = 1.05, 4.0


class Picture:
    """An open picture file."""

    kind = "image"
    language = ""

    def __init__(self, path: str, limits: Limits) -> None:
        """
        Raises:
            Refused: it is damaged, of another format, or has too many pages.
        """
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None  # `Limits.image_pixels` is checked per page.
        try:
            self._image: Any = Image.open(path, formats=_FORMATS)
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise Refused(f"the picture is damaged: {_said(error)}") from None
        self.count = _frames(self._image)
        if self.count > limits.pages:
            self.close()
            raise Refused(f"the picture has {self.count} pages; the limit is {limits.pages}")

    def page(self, index: int, limits: Limits, recognize: Recognize) -> Page:
        """See `OpenDocument.page`."""
        if not limits.ocr:
            return Page()
        found = recognize(self._pixels(index, limits), limits.detail_px)
        if not found.text:
            return Page()
        spoken = language.of(found.text, limits.language)
        return Page(found.text, "ocr", found.confidence, spoken, found.rotation)

    def _pixels(self, index: int, limits: Limits) -> Any:
        """A page as an array: rotated by its EXIF data, with a white background."""
        import numpy as np
        from PIL import Image, ImageOps

        image = self._image
        try:
            image.seek(index)
            _check_size(image.size, limits.image_pixels)
            if image.format == "JPEG":
                # Decode the picture at a fraction of its size if that is enough.
                image.draft(None, (limits.detail_px, limits.detail_px))
            dpi = image.info.get("dpi")
            shown = ImageOps.exif_transpose(image)
        except Refused:
            raise
        except (OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError) as error:
            raise Refused(f"the picture is damaged: {_said(error)}") from None
        if shown.has_transparency_data:
            paper = Image.new("RGBA", shown.size, "white")
            paper.alpha_composite(shown.convert("RGBA"))
            shown = paper
        # Pillow's convert would clip 16 bits per pixel instead of scaling them.
        if shown.mode.startswith("I;16"):
            shown = Image.fromarray((np.asarray(shown) >> 8).astype("uint8"))
        return np.asarray(_fitted(shown.convert("L"), dpi, limits.detail_px))

    def close(self) -> None:
        """Release it."""
        self._image.close()


def _frames(image: Any) -> int:
    """How many pages a picture has. Only TIFF has pages; frames of other formats are an animation.

    Raises:
        Refused: its directory of pages is damaged.
    """
    try:
        return int(image.n_frames) if image.format == "TIFF" else 1
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError) as error:
        raise Refused(f"the picture is damaged: {_said(error)}") from None


def _check_size(size: tuple[int, int], most: int) -> None:
    width, height = size
    if width * height > most:
        raise Refused(f"the picture has {width} x {height} pixels; the limit is {most} in all")


def _fitted(image: Any, dpi: Any, side_px: int) -> Any:
    """The picture with square pixels, and not larger than OCR needs it."""
    from PIL import Image

    width, height = image.size
    stretch = _stretch(dpi)
    wide, high = (width, height * stretch) if stretch >= 1 else (width / stretch, height)
    scale = min(1.0, side_px / max(wide, high))
    size = (max(1, round(wide * scale)), max(1, round(high * scale)))
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def _stretch(dpi: Any) -> float:
    """The ratio of a pixel's height to its width, by the resolutions in the file."""
    try:
        across, down = float(dpi[0]), float(dpi[1])
        stretch = across / down
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return 1.0
    larger = max(stretch, 1 / stretch) if stretch > 0 else 0.0
    return stretch if _STRETCH_MIN <= larger <= _STRETCH_MAX else 1.0


def _said(error: Exception) -> str:
    """The text of an error of Pillow, without the path of the shared memory."""
    text = str(error) or type(error).__name__
    return "it cannot be identified" if "cannot identify" in text else text[:200]
