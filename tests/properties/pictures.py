"""Encoded pictures, whole and damaged, as hypothesis strategies."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

small_pictures = arrays.arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24), st.just(3)))


@st.composite
def encoded(draw: st.DrawFn, formats: tuple[str, ...]) -> bytes:
    """A file of one of Pillow's formats and modes."""
    kind = draw(st.sampled_from(formats))
    modes = {"JPEG": ["RGB", "L", "CMYK"], "BMP": ["RGB", "L"], "GIF": ["P"], "WEBP": ["RGB", "RGBA"],
             "PPM": ["RGB", "L"]}.get(kind, ["RGB", "RGBA", "L", "LA", "P", "I;16", "1"])
    mode, picture = draw(st.sampled_from(modes)), draw(small_pictures)
    image = Image.fromarray(picture)
    if mode == "I;16":
        image = Image.fromarray(picture[..., 0].astype(np.uint16) * 257)
    elif mode not in ("LA",) or kind == "PNG":
        image = image.convert(mode)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@st.composite
def damaged(draw: st.DrawFn, formats: tuple[str, ...]) -> bytes:
    """Such a file with bytes changed, cut out or repeated; or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(draw(encoded(formats)))
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        place = draw(st.integers(0, len(data) - 1))
        damage = draw(st.sampled_from(("change", "cut", "end", "repeat")))
        if damage == "change":
            data[place] = draw(st.integers(0, 255))
        elif damage == "cut":
            del data[place:place + draw(st.integers(1, 20))]
        elif damage == "end":
            del data[place:]
        else:
            data[place:place] = data[place:place + 20]
    return bytes(data)
