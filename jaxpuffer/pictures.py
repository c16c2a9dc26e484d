"""Pictures: as PNG, larger where they are small, and shown by a notebook."""

import io
import sys
from typing import Any

import jax
import numpy as np

SHOWN_SIZE = 320  # pixels; smaller pictures are enlarged towards it
SMALLEST = 8  # pixels of a side: an array below it is not shown as a picture


def enlargement(height: int, width: int) -> int:
    """How many times as large a picture is shown, a whole number, so that its longer side is near 320 pixels."""
    return max(1, round(SHOWN_SIZE / max(height, width)))


def enlarged(pictures: np.ndarray) -> np.ndarray:
    """Pictures uint8 (..., height, width, 3) with every pixel repeated `enlargement` times in both directions."""
    times = enlargement(*pictures.shape[-3:-1])
    return pictures.repeat(times, axis=-3).repeat(times, axis=-2)


def png(picture: np.ndarray) -> bytes:
    """A picture uint8 (height, width, 3) as a PNG file.

    Raises:
        ImportError: Pillow is not installed.
    """
    buffer = io.BytesIO()
    pillow().fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def pillow() -> Any:
    """Pillow's Image module.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import PIL.Image
    except ImportError:
        raise ImportError("pictures need Pillow: pip install pillow") from None
    return PIL.Image


def show_in_notebooks() -> None:
    """Let IPython, if this runs inside it, show pictures that are JAX arrays as pictures.

    These are arrays of uint8 (height, width, 3) with both sides 8 or more, as `env.render` returns. `print(array)`
    still prints numbers, and so do all other arrays.
    """
    if "IPython" not in sys.modules:
        return
    shell = sys.modules["IPython"].get_ipython()
    if shell is not None:
        shell.display_formatter.formatters["image/png"].for_type(jax.Array, _shown)


def _shown(array: jax.Array) -> bytes | None:
    """The PNG of an array that is a picture; None, so that IPython shows it as text, of any other."""
    is_picture = (
        array.ndim == 3 and array.dtype == np.uint8 and array.shape[2] == 3 and min(array.shape[:2]) >= SMALLEST
    )
    if not is_picture or isinstance(array, jax.core.Tracer) or not array.is_fully_addressable or array.is_deleted():
        return None
    return png(enlarged(np.asarray(array)))
