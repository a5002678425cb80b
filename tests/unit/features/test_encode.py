import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sidflow.artifacts.catalog import IMAGES, ITEM_TRUTH, ITEMS
from sidflow.artifacts.features import EMBEDDING, MODALITY, SEMANTICS, UNITS
from sidflow.artifacts.item_content import ItemText
from sidflow.core.errors import InputError
from sidflow.core.params import validate_params
from sidflow.features.documents import text_units
from sidflow.features.encode import run_encoders
from sidflow.features.params import EmbedParams, SpaceParams

STAGES = Path(__file__).parents[3] / "stages"
TITLES = ["red mug", "red cup", "blue lamp", "blue light", "red mug and cup", ""]


def items_table(titles=TITLES):
    return pl.DataFrame(
        {
            "item_id": range(len(titles)),
            "item_key": [f"k{index}" for index in range(len(titles))],
            "title": titles,
            "description": ["Made of clay. Holds tea." if "mug" in title else "" for title in titles],
            "brand": [""] * len(titles),
            "categories": [[] for _ in titles],
            "attributes": [[] for _ in titles],
            "in_core": [True] * len(titles),
        },
        schema=ITEMS.empty().schema,
    )


def semantics_table():
    rows = [(item, "text", f"Seen: {title}.", "rules", False) for item, title in enumerate(TITLES[:4])]
    return pl.DataFrame(rows, schema=SEMANTICS.empty().schema, orient="row")


def params(**knobs):
    spaces = {name: space.model_copy(update={"min_df": 1, "dim": 8}) for name, space in EmbedParams().spaces.items()}
    return EmbedParams(spaces=spaces, **knobs)


@pytest.fixture
def encoded():
    return {one.name: one for one in run_encoders(items_table(), IMAGES.empty(), semantics_table(), params(), seed=0)}


def test_the_default_encoders_make_what_their_contracts_want(encoded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list(encoded) == ["text", "image", "view_text", "view_image", "view_joint", "fine_text"]
    for one in encoded.values():
        one.file.write(one.arrays, one.metadata, name=one.name)
    assert EMBEDDING.read(name="text").metadata["trained_weights"] is False
    assert EMBEDDING.read(name="text").arrays["present"].tolist() == [True] * 5 + [False]
    assert EMBEDDING.read(name="view_text").arrays["present"].tolist() == [True] * 4 + [False] * 2
    assert UNITS.read(name="fine_text").arrays["present"].sum(axis=1).tolist() == [3, 1, 1, 1, 3, 0]
    assert not EMBEDDING.read(name="image").arrays["present"].any()


def test_like_words_lie_near(encoded):
    values = encoded["text"].arrays["values"]
    assert values[0] @ values[4] > values[0] @ values[2]
    assert values[2] @ values[3] > values[1] @ values[2]


def test_views_and_units_share_a_space(encoded):
    coarse, fine = encoded["view_text"].arrays["values"], encoded["fine_text"].arrays["values"]
    assert coarse.shape[1] == fine.shape[2]
    assert coarse[2] @ fine[2, 0] > 0.6  # what is said of an item, and its title
    assert coarse[2] @ fine[2, 0] > coarse[2] @ fine[0, 0]


def test_a_catalogue_without_content_gives_absent_rows_of_width_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nothing = items_table([""] * 4)
    for one in run_encoders(nothing, IMAGES.empty(), SEMANTICS.empty(), EmbedParams(), seed=0):
        one.file.write(one.arrays, one.metadata, name=one.name)
        assert one.arrays["values"].shape[0] == 4
        assert one.arrays["values"].shape[-1] == 1
        assert not one.arrays["present"].any()


def test_units_take_sentences_and_attributes_in_turns():
    words = ItemText(
        "Title", "Kay", ("home", "mugs"), (("size", "small"), ("colour", "red")), ("One.", "Two.", "Three.")
    )
    assert text_units(words, 6) == ("Title", "Kay home mugs", "One.", "size small", "Two.", "colour red")
    assert text_units(words, 99)[-1] == "Three."
    assert text_units(ItemText("", "", (), (), ()), 3) == ()


def test_what_changes_in_one_item_does_not_leak_from_interactions():
    """The encoders read no interaction: their arguments are the catalogue's alone, core or not."""
    outside = items_table().with_columns(in_core=pl.lit(False))
    one, other = (
        [
            made.arrays["values"].tobytes()
            for made in run_encoders(table, IMAGES.empty(), semantics_table(), params(), 0)
        ]
        for table in (items_table(), outside)
    )
    assert one == other


def test_unknown_spaces_and_kinds_are_refused():
    with pytest.raises(InputError, match="found `nowhere`"):
        validate_params(
            {"encoders": {"text": {"kind": "tfidf_svd", "space": "nowhere"}}}, EmbedParams, "params.yaml:embed"
        )
    with pytest.raises(InputError, match="kind"):
        validate_params({"encoders": {"text": {"kind": "clip"}}}, EmbedParams, "params.yaml:embed")
    with pytest.raises(InputError, match=r"spaces\.item\.dim"):
        validate_params({"spaces": {"item": {"dim": 0}}}, EmbedParams, "params.yaml:embed")


@pytest.mark.parametrize("name", ["text.v2", "../text", "text-", ""])
def test_a_name_that_cannot_name_a_file_and_a_part_of_a_model_is_refused(name):
    with pytest.raises(InputError, match=rf"letters, digits, `_` and inner `-`; found `{name}`"):
        validate_params({"encoders": {name: {"kind": "picture_descriptors"}}}, EmbedParams, "params.yaml:embed")


def run(stage, *arguments):
    spec = importlib.util.spec_from_file_location(f"stage_{stage}", STAGES / f"{stage}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(*arguments)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ITEMS.write(items_table())
    IMAGES.write(IMAGES.empty())
    ITEM_TRUTH.write(ITEM_TRUTH.empty())
    Path("params.yaml").write_text(
        "preset: t\nseed: 1\nthreads: 1\ndescribe: {}\n"
        "embed:\n  spaces: {item: {min_df: 1, dim: 4}}\n"
        "  encoders: {text: {kind: tfidf_svd, space: item}, image: {kind: picture_descriptors}}\n"
        "modality:\n  text: {source: artifacts/embeddings/text.safetensors}\n"
        "  image: {source: artifacts/embeddings/image.safetensors}\n"
    )
    return tmp_path


def test_the_stages_run_after_one_another_and_leave_no_other_encoders_file(workspace):
    run("describe")
    Path("artifacts/embeddings").mkdir(parents=True)
    Path("artifacts/embeddings/leftover.safetensors").write_bytes(b"of another preset")
    run("embed")
    assert sorted(path.name for path in Path("artifacts/embeddings").iterdir()) == [
        "image.safetensors", "text.safetensors",
    ]  # fmt: skip
    first = {path.name: path.read_bytes() for path in Path("artifacts/embeddings").iterdir()}
    for name in ("text", "image"):
        run("modality", name)
    text, image = (MODALITY.read(name=name) for name in ("text", "image"))
    assert text.arrays["present"].tolist() == [True] * 5 + [False]
    assert np.square(text.arrays["values"][:5]).mean() == pytest.approx(1, rel=1e-5)
    assert image.arrays["values"].shape == (6, 1)
    assert text.metadata["source"]["trained_weights"] is False
    run("embed")
    assert first == {path.name: path.read_bytes() for path in Path("artifacts/embeddings").iterdir()}


def test_a_missing_source_ends_in_one_line(workspace, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("modality", "text")
    assert "artifacts/embeddings/text.safetensors" in capsys.readouterr().err


def test_defaults_are_as_wide_as_real_text_needs():
    assert SpaceParams().dim == 256
