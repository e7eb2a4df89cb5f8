import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from torchbase.files.png import png


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.integers(0, 100))
def test_pillow_reads_the_same_pixels(height, width, channels, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    with Image.open(io.BytesIO(png(pixels))) as image:
        assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(KeyError):
        png(np.zeros((2, 2, 2), np.uint8))
