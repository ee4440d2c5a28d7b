"""The ICC profile of a picture, which says what colours its RGB values are: Display P3 for example, as phones write it.

Pixels are never changed by it. Results carry the profile of their input, so that viewers show both in the same colours.
"""

from __future__ import annotations

import io

from cut_tf.data.image_files import open_header

# Where an ICC profile's header says of which values it tells, and that it is one at all.
_SPACE, _SIGNATURE = slice(16, 20), slice(36, 40)


def color_profile(data: bytes, where: str) -> bytes:
    """The profile in the bytes of an image file; empty if there is none of RGB values.

    Grey and CMYK pictures become RGB when they are read (`image_files`). Their profiles do not fit then.

    Raises:
      InputError: if there is no image header.
    """
    profile = open_header(io.BytesIO(data), where).info.get("icc_profile") or b""
    return profile if (profile[_SPACE], profile[_SIGNATURE]) == (b"RGB ", b"acsp") else b""
