import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sidflow.artifacts.catalog import IMAGES
from sidflow.artifacts.item_content import rgb_to_lab
from sidflow.features.params import PictureDescriptors
from sidflow.features.pictures import BLOCKS, GRADIENT_CELLS, ORIENTATIONS, encode_pictures

SIDE = 64


def grey(values):
    return rgb_to_lab(np.repeat(np.clip(values, 0, 255).astype(np.uint8)[..., None], 3, axis=-1))


def noise(batch=4, seed=0):
    return rgb_to_lab(np.random.default_rng(seed).integers(0, 256, (batch, SIDE, SIDE, 3)).astype(np.uint8))


@pytest.mark.parametrize("name", BLOCKS)
def test_rows_do_not_depend_on_their_batch(name):
    values = noise()
    together = BLOCKS[name](values)
    alone = np.concatenate([BLOCKS[name](values[row : row + 1]) for row in range(len(values))])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()


@pytest.mark.parametrize("name", BLOCKS)
def test_a_picture_of_one_colour_is_finite(name):
    assert np.isfinite(BLOCKS[name](np.zeros((1, SIDE, SIDE, 3), dtype=np.float32))).all()


def test_colour_knows_no_places_and_the_grid_does():
    picture = rgb_to_lab(np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8))
    picture[:, :, : SIDE // 2] = (60, 70, 40)
    mirrored = picture[:, :, ::-1]
    np.testing.assert_array_equal(BLOCKS["colour"](picture), BLOCKS["colour"](mirrored))
    assert np.abs(BLOCKS["colour_grid"](picture) - BLOCKS["colour_grid"](mirrored)).max() > 10


@pytest.mark.parametrize("name", ["colour", "patterns"])
def test_histograms_have_length_one_per_place(name):
    squares = np.square(BLOCKS[name](noise())).sum(axis=1)
    np.testing.assert_allclose(squares, squares[0].round(), atol=1e-5)


def test_gradients_stand_in_the_bin_of_their_direction():
    ramp = np.linspace(0, 255, SIDE)
    across = grey(np.broadcast_to(ramp, (1, SIDE, SIDE)))
    down = across.transpose(0, 2, 1, 3)
    for picture, bin_ in ((across, 0), (down, ORIENTATIONS // 2)):
        cells = BLOCKS["gradients"](picture).reshape(GRADIENT_CELLS**2, ORIENTATIONS)
        assert (cells.argmax(axis=1) == bin_).all()


def test_patterns_do_not_see_brightness():
    y, x = np.mgrid[:SIDE, :SIDE]
    light = (50 + 20 * np.sin(x / 2) + 10 * np.cos(y / 3)).astype(np.float32)
    dark, bright = (np.stack([light + shift, 0 * light, 0 * light], axis=-1)[None] for shift in (0, 15))
    np.testing.assert_allclose(BLOCKS["patterns"](dark), BLOCKS["patterns"](bright), atol=0.02)


def test_frequencies_rise_where_the_wave_is():
    x = np.arange(SIDE)
    coarse, fine = (grey(128 + 100 * np.sin(2 * np.pi * x / period) + np.zeros((1, SIDE, SIDE))) for period in (32, 4))
    per_ring = [BLOCKS["frequencies"](p).reshape(-1, ORIENTATIONS).max(axis=1).argmax() for p in (coarse, fine)]
    assert per_ring[0] < per_ring[1]


def packed(colours):
    rows = []
    for number, colour in colours.items():
        buffer = io.BytesIO()
        Image.fromarray(np.full((40, 40, 3), colour, dtype=np.uint8)).save(buffer, "JPEG")
        rows.append((number, buffer.getvalue(), 40, 40))
    return pl.DataFrame(rows, schema=IMAGES.empty().schema, orient="row")


def test_like_pictures_lie_near_and_absent_ones_are_zero():
    images = packed({0: (200, 20, 20), 2: (190, 25, 25), 3: (20, 20, 200), 5: (25, 25, 190)})
    values, present = encode_pictures(images, 6, PictureDescriptors(kind="picture_descriptors", dim=8))
    assert present.tolist() == [True, False, True, True, False, True]
    assert not values[~present].any()
    assert values.shape[1] <= 3  # four centred rows have no higher rank
    apart = np.linalg.norm(values[:, None] - values[None], axis=-1)
    assert apart[0, 2] < apart[0, 3] > apart[3, 5]


@pytest.mark.parametrize("images", [IMAGES.empty(), packed({1: (9, 9, 9)})])
def test_no_picture_and_one_picture(images):
    values, present = encode_pictures(images, 3, PictureDescriptors(kind="picture_descriptors"))
    assert values.shape == (3, 1)
    assert present.sum() == images.height
    assert not values.any()
