"""Pictures on the page: small, each once, and of its own item."""

import base64
import io
import re

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tests.unit.report.cases import report_data

from sidflow.report.data import ReportParams
from sidflow.report.sections.examples import Gallery, items_section


def jpeg(colour, size=(200, 100)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG")
    return buffer.getvalue()


def shown(gallery):
    """Return the pictures of the page by item."""
    pairs = re.findall(r"\.p(\d+)\{background-image:url\(data:image/jpeg;base64,([^)]*)\)\}", gallery.style())
    return {int(item): Image.open(io.BytesIO(base64.b64decode(data))) for item, data in pairs}


def test_each_tile_has_the_picture_of_its_item():
    pictures = {1: jpeg((250, 0, 0)), 2: jpeg((0, 0, 250), (20, 40)), 3: b"no picture", 4: jpeg((0, 250, 0))}
    gallery = Gallery(pictures, {item: f"title {item}" for item in range(6)}, 50, 90)
    for item in (1, 2, 3, 5, 2):
        tile = gallery.tile(item)
        assert (f"face p{item}" in tile) == (item in (1, 2))
        assert tile.count(f"title {item}") >= 2
    found = shown(gallery)
    assert sorted(found) == [1, 2]
    assert found[1].size == (50, 25) and found[2].size == (20, 40)  # never enlarged
    for item, colour in ((1, (250, 0, 0)), (2, (0, 0, 250))):
        assert np.asarray(found[item]).mean((0, 1)) == pytest.approx(colour, abs=8)


def test_quality_is_that_of_the_setting():
    noise = np.random.default_rng(0).integers(255, size=(60, 60, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", quality=95)
    sizes = []
    for quality in (20, 80):
        gallery = Gallery({0: buffer.getvalue()}, {0: "noise"}, 60, quality)
        gallery.tile(0)
        sizes.append(len(gallery.style()))
    assert sizes[0] < 0.6 * sizes[1]


def test_a_tile_has_its_mark_and_its_note():
    gallery = Gallery({}, {0: "lamp"}, 50, 90)
    assert gallery.tile(0, "hit", "1. lamp") == (
        '<figure class="tile hit"><span class="face words" title="lamp">lamp</span>'
        '<figcaption title="lamp">1. lamp</figcaption></figure>'
    )
    assert '<figure class="tile">' in gallery.tile(0) and '<figcaption title="lamp">lamp<' in gallery.tile(0)


def test_an_item_has_its_own_words_beside_what_was_written_of_it():
    made = report_data()
    first = pl.col("item_id") == 0
    items = made.items.with_columns(
        brand=pl.when(first).then(pl.lit("Hearth")).otherwise(pl.lit("")),
        description=pl.when(first).then(pl.lit(f"It glows. {'long ' * 99}")).otherwise(pl.lit("")),
    )
    text = str(items_section(made._replace(items=items), Gallery({}, dict.fromkeys(range(99), "t"), 50, 90),
                             ReportParams(items=3)))  # fmt: skip
    own = re.findall(r"<dt>own words</dt><dd>(.*?)</dd><dt>text</dt>", text)
    assert own[0].startswith("Hearth.") and "It glows. long long" in own[0] and len(own[0]) <= 300
    assert all("Hearth" not in other for other in own[1:])


def test_a_run_without_semantic_ids_says_so_once():
    made, settings = report_data(), ReportParams(items=3)
    gallery = Gallery({}, dict.fromkeys(range(99), "t"), 50, 90)
    without = str(items_section(made._replace(semantic_ids=made.semantic_ids.clear()), gallery, settings))
    assert without.count("The run has no semantic IDs.") == 1
    assert "No semantic ID." not in without and 'class="ids"' not in without
    others = made.semantic_ids.filter(pl.col("item_id") != 0)
    part = str(items_section(made._replace(semantic_ids=others), gallery, settings))
    assert part.count("No semantic ID.") == 1 and "has no semantic IDs" not in part
