"""Constants of rescaling loops."""

from __future__ import annotations

import numpy as np
import pytest

from fixqnn.kernels.products import spread


@pytest.mark.parametrize(
    ("values", "channels", "width"), [([3], 4, 12), ([1, 2, 3], 3, 9), ([1, 2], 4, 8), ([5, 6], 2, 5), ([7], 1, 1)]
)
def test_constants_are_repeated_channel_after_channel_up_to_the_width(values, channels, width):
    found = spread(values, channels, width, np.int32)
    per_channel = (values * channels)[:channels]
    assert found.tolist() == (per_channel * width)[:width]
    assert found.dtype == np.int32
    assert found.flags.writeable, "a read-only array would be another signature, and compile anew"
    assert found.flags.c_contiguous
