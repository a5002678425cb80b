"""Good pictures come in small, RGB and identical; bad ones are counted and never fatal."""

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib

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


def write_png(path, bits, colour_type, rows, transparent=None):
    """Write a PNG by hand: Pillow writes none with 16 bits and a transparent colour."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = rows.shape[:2]
    lines = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in rows)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
        + (chunk(b"tRNS", np.array(transparent, dtype=">u2").tobytes()) if transparent is not None else b"")
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def grey_columns(path):
    """Return the mean grey of each quarter of a packed picture."""
    packed = pack_pictures(["a"], {"a": path}, LIMITS)
    assert packed.problems == {}
    pixels = np.asarray(Image.open(io.BytesIO(packed.rows[0]["picture"])), dtype=float).mean(axis=(0, 2))
    return pixels.reshape(4, -1).mean(axis=1).round().tolist()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("colour_type", [0, 2], ids=["grey", "rgb"])
@pytest.mark.parametrize("transparent", [None, 0, 2])
def test_only_the_transparent_level_turns_white(tmp_path, bits, colour_type, transparent):
    levels = np.array([0, 80, 130, 200]) * (257 if bits == 16 else 1)
    rows = np.broadcast_to(levels.repeat(16)[None, :], (16, 64))
    rows = rows if colour_type == 0 else rows[:, :, None].repeat(3, axis=2)
    colour = None if transparent is None else [levels[transparent]] * (1 if colour_type == 0 else 3)
    write_png(tmp_path / "a.png", bits, colour_type, rows, colour)
    expected = [0, 80, 130, 200]
    if transparent is not None:
        expected[transparent] = 255
    assert grey_columns(tmp_path / "a.png") == pytest.approx(expected, abs=3)


@pytest.mark.parametrize("form", ["cmyk.jpg", "grey.jpg", "first.gif", "first.png", "first.webp", "palette.png"])
def test_each_form_of_file_keeps_its_colours_and_an_animation_its_first_picture(tmp_path, form):
    image, path = gradient(64, 16), tmp_path / form
    if form.startswith("first"):
        red = [Image.new("RGB", image.size, "red")]
        image.save(path, save_all=True, append_images=red, **({"lossless": True} if "webp" in form else {}))
    else:
        image.convert({"cmyk.jpg": "CMYK", "grey.jpg": "L", "palette.png": "P"}[form]).save(path)
    assert grey_columns(path) == pytest.approx([31, 95, 159, 223], abs=4)


@pytest.mark.parametrize("mode", ["I", "I;16", "I;16B"])
def test_sixteen_bit_grey_in_memory_is_scaled(mode):
    levels = np.array([[0, 20_000, 40_000, 65_535]]).repeat(8, axis=0).repeat(16, axis=1)
    dtype = {"I": "<i4", "I;16": "<u2", "I;16B": ">u2"}[mode]
    image = Image.frombytes(mode, (64, 8), levels.astype(dtype).tobytes())
    pixels = np.asarray(Image.open(io.BytesIO(encode_jpeg(image, LIMITS)[0])), dtype=float).mean(axis=(0, 2))
    assert pixels.reshape(4, -1).mean(axis=1) == pytest.approx([0, 78, 156, 255], abs=3)


def test_levels_outside_of_sixteen_bits_are_the_nearest_inside():
    levels = np.array([[-300, 0, 65_535, 70_000]], dtype="<i4").repeat(8, axis=0).repeat(16, axis=1)
    image = Image.frombytes("I", (64, 8), levels.tobytes())
    pixels = np.asarray(Image.open(io.BytesIO(encode_jpeg(image, LIMITS)[0])), dtype=float).mean(axis=(0, 2))
    assert pixels.reshape(4, -1).mean(axis=1) == pytest.approx([0, 0, 255, 255], abs=3)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bit_grey_is_not_widened(mode):
    image = Image.new(mode, (500, 400))
    tracemalloc.start()
    try:
        encode_jpeg(image, LIMITS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * 500 * 400


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nothing"])
def test_what_is_no_file_is_counted_and_not_waited_for(tmp_path, kind):
    path = tmp_path / "images/x.jpg"
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.parent / "absent.jpg")
    code = "import sys, pathlib; from sidflow.catalog.pictures import *\n"
    code += "from sidflow.catalog.reading import DataFolder\n"
    code += "pictures = DataFolder(pathlib.Path(sys.argv[1])).picture_files('images')\n"
    code += "print(dict(pack_pictures(['x'], pictures, PictureParams()).problems))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "{'broken': 1}"


def test_a_picture_that_cannot_be_converted_is_counted():
    broken = Image.new("La", (4, 4))  # Pillow converts this mode to LA alone
    assert pack_pictures(["a"], {"a": lambda: broken}, LIMITS).problems == {"broken": 1}


def test_a_picture_with_damaged_exif_comes_in_without_a_warning(tmp_path, recwarn):
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Maker"
    buffer = io.BytesIO()
    gradient(64, 16).save(buffer, "JPEG", exif=exif)
    whole = buffer.getvalue()
    for byte in range(20, 100):
        for value in (0, 2, 255):
            data = bytearray(whole)
            data[byte] = value
            (tmp_path / "a.jpg").write_bytes(data)
            packed = pack_pictures(["a"], {"a": tmp_path / "a.jpg"}, LIMITS)
            assert len(packed.rows) + packed.problems["broken"] == 1
    assert not recwarn.list
