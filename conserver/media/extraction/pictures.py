"""Pictures of pages, by Pillow: PNG, JPEG, TIFF with many pages, WebP, BMP, GIF."""

from __future__ import annotations

from typing import Any

from conserver.media.extraction import language
from conserver.media.extraction.pages import Limits, Page, Recognize, Refused

_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
# Facsimiles have pixels that are up to twice as high as wide; a wrong label says more.
_STRETCH_MIN, _STRETCH_MAX = 1.05, 4.0


class Picture:
    """A picture file that is open."""

    kind = "image"
    language = ""

    def __init__(self, path: str, limits: Limits) -> None:
        """
        Raises:
            Refused: it is damaged, of another format, or has too many pages.
        """
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None  # Each page is compared with our own limit.
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
        """A page as an array, upright as its EXIF data say, on white."""
        import numpy as np
        from PIL import Image, ImageOps

        image = self._image
        try:
            image.seek(index)
            _check_size(image.size, limits.image_pixels)
            if image.format == "JPEG":
                # Decoded at a fraction of its size where that is enough.
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
        # 16 bits per pixel would be cut off instead of scaled.
        if shown.mode.startswith("I;16"):
            shown = Image.fromarray((np.asarray(shown) >> 8).astype("uint8"))
        return np.asarray(_fitted(shown.convert("L"), dpi, limits.detail_px))

    def close(self) -> None:
        """Release it."""
        self._image.close()


def _frames(image: Any) -> int:
    """How many pages a picture has. The frames of other formats are an animation.

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
    """The picture with square pixels, and not larger than it will be read."""
    from PIL import Image

    width, height = image.size
    stretch = _stretch(dpi)
    wide, high = (width, height * stretch) if stretch >= 1 else (width / stretch, height)
    scale = min(1.0, side_px / max(wide, high))
    size = (max(1, round(wide * scale)), max(1, round(high * scale)))
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def _stretch(dpi: Any) -> float:
    """How much higher than wide a pixel is, by the resolutions of a file."""
    try:
        across, down = float(dpi[0]), float(dpi[1])
        stretch = across / down
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return 1.0
    larger = max(stretch, 1 / stretch) if stretch > 0 else 0.0
    return stretch if _STRETCH_MIN <= larger <= _STRETCH_MAX else 1.0


def _said(error: Exception) -> str:
    """An error of Pillow without the path of our memory file."""
    text = str(error) or type(error).__name__
    return "it cannot be identified" if "cannot identify" in text else text[:200]
