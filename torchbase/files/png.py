"""Encodes images as PNG without an image library: https://www.w3.org/TR/png-3/."""

import struct
import zlib
from typing import Any

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2}  # grey; red, green, blue
_BITS = 8


def png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Encodes an image.

    Args:
        pixels: Bytes, shape (height, width, channels), 1 or 3 channels.

    Returns:
        The content of a PNG file.
    """
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, _BITS, _COLOUR_TYPES[channels], 0, 0, 0)
    # Each row begins with the number of its filter; 0 is none.
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, width * channels)], axis=1)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows.tobytes())) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
