import numpy as np
import pytest

from sidflow.semantics.pictures import COLOUR_NAMES, LINE_DIRECTIONS, background_name, colour_index, measure_pictures
from sidflow.semantics.rules import describe_picture

SIDE = 64


def one(picture, aspect=1.0):
    return measure_pictures(picture[None].astype(np.uint8), np.array([aspect], dtype=np.float32))


def flat(colour):
    return np.full((SIDE, SIDE, 3), colour, dtype=np.uint8)


def stripes(angle, period=8.0):
    y, x = np.mgrid[:SIDE, :SIDE]
    wave = np.sin(2 * np.pi * (x * np.sin(angle) + y * np.cos(angle)) / period)
    return np.repeat((128 + 100 * wave)[..., None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((255, 255, 255), "white"), ((0, 0, 0), "black"), ((220, 20, 30), "red"), ((20, 30, 200), "blue"),
        ((128, 128, 128), "grey"), ((250, 220, 30), "yellow"), ((30, 140, 50), "green"), ((100, 60, 30), "brown"),
        ((250, 130, 20), "orange"), ((240, 150, 190), "pink"), ((100, 40, 150), "purple"),
    ],
)  # fmt: skip
def test_plain_colours_have_their_names(rgb, name):
    assert COLOUR_NAMES[colour_index(np.array([rgb], dtype=np.uint8))[0]] == name


def test_the_look_up_agrees_with_itself_everywhere_in_a_cell():
    rgb = np.array([[80, 80, 80], [87, 87, 87]], dtype=np.uint8)
    assert len(set(colour_index(rgb).tolist())) == 1


def test_a_subject_on_white_is_found_and_its_colour_alone_is_counted():
    picture = flat((255, 255, 255))
    picture[8:24, 32:56] = (220, 20, 30)
    seen = one(picture)
    assert seen.plain[0]
    assert background_name(seen.background[0]) == "white"
    assert seen.subject[0] == pytest.approx(16 * 24 / SIDE**2)
    assert seen.colours[0][COLOUR_NAMES.index("red")] == pytest.approx(1)
    np.testing.assert_allclose(seen.centre[0], (44 / SIDE, 16 / SIDE), atol=1e-6)
    assert seen.contrast[0] == pytest.approx(0, abs=1e-3)  # of the subject, which is of one colour


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((255, 255, 255), "white"), ((251, 252, 250), "white"), ((238, 238, 238), "off-white"),
        ((247, 240, 234), "cream"), ((246, 242, 233), "cream"), ((248, 233, 238), "pale pink"),
        ((244, 233, 247), "pale lavender"), ((233, 240, 246), "pale blue"), ((234, 247, 238), "pale green"),
        ((249, 247, 222), "pale yellow"), ((190, 192, 191), "light grey"), ((20, 20, 22), "black"),
        ((150, 195, 235), "light blue"), ((200, 30, 40), "red"),
    ],
)  # fmt: skip
def test_a_plain_background_is_said_in_its_own_colour(rgb, name):
    picture = flat(rgb)
    picture[20:44, 20:44] = (30, 110, 50)
    assert (
        f" on a plain {name} background." in describe_picture(one(picture), 0, colours=3, min_share=0.05).sentences[0]
    )


def test_a_floor_below_a_wall_is_one_background():
    picture = flat((235, 230, 225))
    picture[44:] = (200, 205, 215)
    picture[20:50, 20:44] = (20, 90, 40)
    seen = one(picture)
    assert seen.plain[0]
    assert seen.subject[0] == pytest.approx(30 * 24 / SIDE**2, abs=0.01)


def test_noise_and_stripes_have_no_plain_background():
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3))
    for picture in (noise, stripes(0.0), stripes(np.pi / 2)):
        assert not one(picture).plain[0]


def test_an_empty_picture_is_smooth_and_centred():
    seen = one(flat((30, 60, 160)))
    assert seen.subject[0] == 0
    assert seen.edges[0] == 0
    assert COLOUR_NAMES[int(seen.colours[0].argmax())] == "blue"
    np.testing.assert_allclose(seen.centre[0], 0.5)


@pytest.mark.parametrize(
    ("angle", "lines"),
    [(0.0, "horizontal"), (np.pi / 2, "vertical"), (np.pi / 4, "rising diagonal"), (-np.pi / 4, "falling diagonal")],
)
def test_lines_run_where_they_run(angle, lines):
    seen = one(stripes(angle, 12.0))
    assert LINE_DIRECTIONS[int(seen.orientations[0].argmax())] == lines
    assert seen.orientations[0].sum() == pytest.approx(1, abs=1e-5)


def test_rising_means_up_to_the_right():
    picture = flat((255, 255, 255))
    for x in range(SIDE):
        picture[max(0, SIDE - 1 - x - 2) : SIDE - x + 2, x] = 0  # from the lower left to the upper right corner
    assert LINE_DIRECTIONS[int(one(picture).orientations[0].argmax())] == "rising diagonal"


def test_a_squeezed_line_keeps_its_angle():
    steep = one(stripes(np.pi / 3.4, 12.0), aspect=0.2)  # in a tall picture these lines are close to vertical
    assert LINE_DIRECTIONS[int(steep.orientations[0].argmax())] == "vertical"


def test_patterns_are_told_from_noise():
    rng = np.random.default_rng(1)
    noise = np.repeat(rng.integers(0, 256, (SIDE, SIDE, 1)), 3, axis=2)
    checks = np.repeat(((np.indices((SIDE, SIDE)) // 4).sum(axis=0) % 2 * 255)[..., None], 3, axis=2)
    assert one(stripes(np.pi / 2)).regularity[0] > 0.8
    assert one(checks).regularity[0] > 0.2
    assert one(noise).regularity[0] < 0.1


def test_a_batch_is_measured_as_its_pictures_are():
    rng = np.random.default_rng(2)
    pictures = rng.integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.uint8)
    pictures[1] = flat((250, 250, 250))
    aspect = np.array([1.0, 0.7, 1.5], dtype=np.float32)
    together = measure_pictures(pictures, aspect)
    for row in range(3):
        alone = measure_pictures(pictures[row : row + 1], aspect[row : row + 1])
        for several, single in zip(together, alone, strict=True):
            np.testing.assert_array_equal(several[row], single[0])
