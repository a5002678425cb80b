"""Good pictures come in small, RGB and identical; bad ones are counted and never fatal."""

import io

import numpy as np
import pytest
from PIL import Image

from sidflow.catalog.params import PictureParams
from sidflow.catalog.pictures import FORMATS, encode_jpeg, pack_pictures

LIMITS = PictureParams(max_side=64, max_pixels=10_000, max_bytes=100_000)


def gradient(width, height):
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    return Image.fromarray(np.broadcast_to(ramp[None, :, None], (height, width, 3)).copy())


@pytest.fixture
def folder(tmp_path):
    gradient(100, 50).save(tmp_path / "good.png")
    gradient(200, 200).save(tmp_path / "huge.png")
    (tmp_path / "text.jpg").write_text("<html>not found</html>")
    data = io.BytesIO()
    gradient(90, 90).save(data, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "heavy.png").write_bytes(b"\0" * 100_001)
    return tmp_path


def test_bad_pictures_are_told_and_the_rest_comes_in(folder):
    names = ["absent", "cut", "empty", "good", "heavy", "huge", "text"]
    packed = pack_pictures(names, {path.stem: path for path in folder.iterdir()}, LIMITS)
    assert [row["item_id"] for row in packed.rows] == [names.index("good")]
    assert dict(packed.problems) == {"missing": 1, "broken": 3, "too_large": 2}
    assert packed.example.startswith("cut: ")
    assert str(folder) not in packed.example
    assert packed.frame().height == 1


def test_size_is_known_before_a_pixel_is_decoded(folder, monkeypatch):
    def forbidden(self, *args):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", forbidden)
    assert pack_pictures(["huge"], {"huge": folder / "huge.png"}, LIMITS).problems["too_large"] == 1


def test_a_picture_is_reduced_and_keeps_its_shape(folder):
    row = pack_pictures(["good"], {"good": folder / "good.png"}, LIMITS).rows[0]
    assert (row["width"], row["height"]) == (64, 32)
    image = Image.open(io.BytesIO(row["picture"]))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 32))
    pixels = np.asarray(image, dtype=float).mean(axis=(0, 2))
    assert np.abs(pixels - np.linspace(0, 255, 64)).max() < 12


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "I;16", "1"])
def test_every_mode_becomes_rgb(mode):
    image = Image.new(mode, (20, 20)) if mode == "I;16" else gradient(20, 20).convert(mode)
    data, _ = encode_jpeg(image, LIMITS)
    assert Image.open(io.BytesIO(data)).mode == "RGB"


def test_transparent_is_white_and_metadata_is_gone():
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    clear.info["comment"] = b"secret"
    data, _ = encode_jpeg(clear, LIMITS)
    assert b"secret" not in data
    assert np.asarray(Image.open(io.BytesIO(data))).min() > 250


def test_same_picture_same_bytes():
    assert encode_jpeg(gradient(30, 30), LIMITS) == encode_jpeg(gradient(30, 30), LIMITS)


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "ICO", "TGA", "PCX", "EPS", "JPEG2000"])
def test_no_decoder_but_those_listed_sees_a_file_whatever_its_name(tmp_path, kind):
    path = tmp_path / "picture.jpg"
    gradient(16, 16).save(path, kind)
    assert Image.open(path).format not in FORMATS  # Pillow itself would decode it
    packed = pack_pictures(["one"], {"one": path}, LIMITS)
    assert packed.rows == [] and dict(packed.problems) == {"broken": 1}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_listed_comes_in(tmp_path, kind):
    gradient(16, 16).save(tmp_path / "picture", kind)
    assert len(pack_pictures(["one"], {"one": tmp_path / "picture"}, LIMITS).rows) == 1
