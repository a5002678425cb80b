import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sidflow.artifacts.catalog import IMAGES, ITEMS
from sidflow.artifacts.features import SEMANTICS
from sidflow.core.errors import InputError
from sidflow.core.params import validate_params
from sidflow.core.runtime import Runtime
from sidflow.semantics.describe import describe_items as describe
from sidflow.semantics.params import DescribeParams, RulesParams


def item(number, title="", description="", brand="", categories=(), attributes=()):
    return {
        "item_id": number, "item_key": str(number), "title": title, "description": description, "brand": brand,
        "categories": list(categories), "attributes": [{"name": n, "value": v} for n, v in attributes],
        "in_core": True,
    }  # fmt: skip


def describe_items(items, images, params):
    return describe(items, images, DescribeParams(writer=params), Runtime()).semantics


def items_table(*rows):
    return pl.concat([ITEMS.empty(), pl.DataFrame(list(rows), schema=ITEMS.empty().schema)])


def images_table(**pictures):
    rows = []
    for number, colour in pictures.items():
        array = np.full((80, 60, 3), 255, dtype=np.uint8)
        array[20:60, 15:45] = colour
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "JPEG", quality=95)
        rows.append((int(number[1:]), buffer.getvalue(), 60, 80))
    return pl.DataFrame(rows, schema=IMAGES.empty().schema, orient="row")


RED, BLUE = (220, 20, 30), (30, 60, 170)


@pytest.fixture
def described():
    items = items_table(
        item(0, "Red mug", "Holds tea. Keeps warm. Third. Fourth.", "Kay", ["home", "mugs"], [("size", "small")]),
        item(1, "Blue lamp", "Made of oak."),
        item(2),
        item(3),
        item(4, "Red chair"),
    )
    frame = describe_items(items, images_table(i0=RED, i2=BLUE, i4=BLUE), RulesParams(max_sentences=2))
    return {(row["item_id"], row["view"]): row["text"] for row in frame.iter_rows(named=True)}, frame


def test_what_is_missing_is_never_invented(described):
    views, _ = described
    assert sorted(views) == [(0, "image"), (0, "joint"), (0, "text"), (1, "text"), (2, "image"), (4, "image"),
                             (4, "joint"), (4, "text")]  # fmt: skip


def test_the_artifact_says_that_no_language_model_wrote_it(described, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SEMANTICS.write(described[1])
    back = SEMANTICS.read()
    assert back["writer"].unique().to_list() == ["rules"]
    assert not back["by_mllm"].any()


def test_the_text_view_says_the_words_and_stops_where_told(described):
    text = described[0][0, "text"]
    assert text == "Red mug. By Kay. Category: home > mugs. size: small. Holds tea. Keeps warm."


def test_the_image_view_says_the_picture_and_none_of_the_words(described):
    text = described[0][0, "image"]
    assert text.startswith("Almost entirely red")
    assert " on a plain white background." in text
    assert "Portrait format, the subject at the centre, filling about a third of it." in text
    assert "mug" not in text


def test_the_joint_view_holds_words_against_picture(described):
    views, _ = described
    assert "Words and picture agree on red." in views[0, "joint"]
    assert "The words say red, the picture does not show it." in views[4, "joint"]
    assert views[0, "joint"].startswith("Red mug.")


def test_views_are_cut_at_a_word():
    items = items_table(item(0, "Word " * 60))
    text = describe_items(items, IMAGES.empty(), RulesParams(max_characters=42))["text"][0]
    assert text == " ".join(["Word"] * 8)
    assert (
        len(describe_items(items_table(item(0, "x" * 99)), IMAGES.empty(), RulesParams(max_characters=42))["text"][0])
        == 42
    )


def test_a_catalogue_without_words_or_pictures_is_described_by_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SEMANTICS.write(describe_items(items_table(item(0), item(1)), IMAGES.empty(), RulesParams()))
    assert SEMANTICS.read().height == 0


def test_an_unknown_writer_is_refused():
    with pytest.raises(InputError, match=r"describe\.writer: expected .*rules"):
        validate_params({"writer": {"backend": "oracle"}}, DescribeParams, "params.yaml:describe")
