import io

import numpy as np
import pytest
from PIL import Image

from sidflow.artifacts.item_content import decode_thumbnails, rgb_to_lab
from sidflow.core.errors import InputError


def jpeg(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_lab_of_known_colours():
    rgb = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)
    known = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(rgb_to_lab(rgb), known, atol=0.03)


def test_thumbnails_keep_places_and_colours():
    picture = np.zeros((90, 60, 3), dtype=np.uint8)
    picture[:45] = (250, 10, 10)
    picture[45:] = (10, 10, 250)
    small = decode_thumbnails([jpeg(picture)], 32)
    assert small.shape == (1, 32, 32, 3)
    assert np.abs(small[0, :14].astype(int) - (250, 10, 10)).max() < 12
    assert np.abs(small[0, 18:].astype(int) - (10, 10, 250)).max() < 12


def test_no_pictures_and_broken_pictures():
    assert decode_thumbnails([], 32).shape == (0, 32, 32, 3)
    with pytest.raises(InputError, match="pictures that Pillow can decode"):
        decode_thumbnails([b"no picture"], 32)
