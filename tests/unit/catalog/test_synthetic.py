"""The synthetic catalogue: the same seed gives the same one; its truth, texts and pictures are consistent."""

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sidflow.catalog.ingest import ingest
from sidflow.catalog.params import IngestParams
from sidflow.catalog.synthetic.drawing import draw_product
from sidflow.catalog.synthetic.products import TEMPLATE_NAMES, read_grammar, sample_products, write_item_texts
from sidflow.core.errors import InputError

GRAMMAR = Path(__file__).parents[3] / "presets/grammar.yaml"


def made(**size):
    return ingest(
        IngestParams.model_validate(
            {"path": str(GRAMMAR), "synthetic": {"users": 200, "items": 96, "picture_side": 48, **size}}
        )
    )


@pytest.fixture(scope="module")
def catalogue():
    return made()


def test_the_same_seed_gives_the_same_catalogue(catalogue):
    again = made()
    for name in ("interactions", "items", "users", "images", "truth"):
        assert getattr(catalogue, name).equals(getattr(again, name)), name


def test_no_user_has_a_product_twice_and_some_events_share_a_second(catalogue):
    assert catalogue.interactions.select("user_id", "item_id").is_duplicated().sum() == 0
    assert 0 < catalogue.report["tie_rate"] < 0.2


def test_truth_is_a_distribution_over_what_the_user_does_not_have(catalogue):
    events = catalogue.interactions.sort("user_id", "position")
    histories = events.group_by("user_id", maintain_order=True).agg("item_id")["item_id"].to_list()
    core = int(catalogue.items["in_core"].sum())
    assert catalogue.truth.height == 2 * catalogue.users.height
    for row in catalogue.truth.iter_rows(named=True):
        history = histories[row["user_id"]]
        chance = np.array(row["probabilities"])
        assert len(chance) == core
        assert chance.sum() == pytest.approx(1, abs=1e-4)
        assert not chance[history[: row["position"]]].any()
        assert chance[history[row["position"]]] > 0
        assert row["position"] in (len(history) - 1, len(history) - 2)


def test_no_truth_may_be_asked_for():
    assert made(truth_positions=0).truth.height == 0


def test_events_happen_as_often_as_the_truth_says():
    catalogue = made(users=3000, items=48, truth_positions=2, mean_length=8)
    joined = catalogue.truth.join(catalogue.interactions, on=["user_id", "position"])
    chance = np.array(joined["probabilities"].to_list())
    happened = np.zeros_like(chance)
    happened[np.arange(len(chance)), joined["item_id"].to_numpy()] = 1
    for low, high in ((0, 0.01), (0.01, 0.05), (0.05, 0.2), (0.2, 1)):
        band = (chance >= low) & (chance < high)
        error = np.sqrt((chance * (1 - chance))[band].sum())
        assert abs(happened[band].sum() - chance[band].sum()) < 4 * error


def test_the_catalogue_has_its_difficult_items(catalogue):
    assert 0 < catalogue.report["items_outside_core"] < 40
    assert catalogue.items.filter(pl.col("title") == "").height > 0
    assert catalogue.report["pictures_missing"] > 0
    assert catalogue.report["pictures_broken"] == 0


def test_words_name_category_and_style():
    lexicon = read_grammar(GRAMMAR)
    params = IngestParams().synthetic.model_copy(update={"items": 300, "textless_share": 0.0})
    goods = sample_products(lexicon, params, np.random.default_rng(0))
    texts = write_item_texts(lexicon, goods, np.random.default_rng(1))
    names, styles = list(lexicon.categories), list(lexicon.styles.values())
    said = [
        any(word in f"{row['title']} {row['description']}".lower() for word in styles[goods.first[i]].words)
        for i, row in enumerate(texts.iter_rows(named=True))
    ]
    assert np.mean(said) > 0.9
    assert [row[-1] for row in texts["categories"].to_list()] == [names[one] for one in goods.category]
    assert not texts["title"].str.contains("[{}]").any()


def test_pictures_show_colour_and_shape():
    lexicon = read_grammar(GRAMMAR)
    goods = sample_products(lexicon, IngestParams().synthetic, np.random.default_rng(0))
    silhouettes: dict[int, list[np.ndarray]] = {}
    for row in range(48):
        image = draw_product(lexicon, goods, row, 32, [1, row])
        assert (image.mode, image.size) == ("RGB", (32, 32))
        pixels = np.asarray(image, dtype=float)
        silhouettes.setdefault(int(goods.category[row]), []).append(np.abs(pixels - pixels[0, 0]).sum(axis=2) > 60)
    within, between = [], []
    for category, masks in silhouettes.items():
        for other, theirs in silhouettes.items():
            pairs = [np.mean(a ^ b) for a in masks for b in theirs if a is not b]
            (within if category == other else between).extend(pairs)
    assert np.mean(within) < 0.6 * np.mean(between)


def test_packed_pictures_open(catalogue):
    image = Image.open(io.BytesIO(catalogue.images["picture"][0]))
    assert image.size == (48, 48)


def test_a_grammar_with_an_unknown_style_is_refused(tmp_path):
    broken = tmp_path / "grammar.yaml"
    broken.write_text(GRAMMAR.read_text().replace("Velo: sporty", "Velo: sportif"))
    with pytest.raises(InputError, match="sportif"):
        read_grammar(broken)


@pytest.mark.parametrize(
    "template",
    ["{brnd}", "{}", "{0}", "{brand", "brand}", "{brand.upper}", "{brand[0]}", "{brand:d}", "{brand:.0}", "{brand!r}"],
)
@pytest.mark.parametrize("old", ["{brand} {style} {colour} {noun}", "Made of {material}, it {use}. {mood} {care}"])
def test_a_template_that_cannot_be_filled_in_is_refused(tmp_path, old, template):
    broken = tmp_path / "grammar.yaml"
    broken.write_text(GRAMMAR.read_text().replace(old, template))
    with pytest.raises(InputError, match="names in braces, of noun, style,") as error:
        read_grammar(broken)
    assert error.value.example == template


def test_templates_may_have_every_name_and_braces_of_their_own(tmp_path):
    path = tmp_path / "grammar.yaml"
    every = " ".join(f"{{{name}}}" for name in TEMPLATE_NAMES)
    path.write_text(GRAMMAR.read_text().replace("{style} {noun} in {colour} {material}", "{{x}} " + every))
    grammar = read_grammar(path)
    goods = sample_products(grammar, IngestParams().synthetic, np.random.default_rng(0))
    titles = write_item_texts(grammar, goods, np.random.default_rng(1))["title"].to_list()
    filled = [title for title in titles if title.startswith("{x} ")]
    assert filled and not any("{" in title[1:] for title in filled)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("teapot: 5", "teapot: -5", r"then\.teapot: expected a number >= 0.*found -5"),
        ("teapot: 5", "teapot: .nan", r"then\.teapot: expected a number >= 0.*found nan"),
        ("teapot: 5", "teapot: .inf", r"then\.teapot: expected a number >= 0.*found inf"),
        ("teapot: 5", "teapot: 1e308", r"then\.teapot: expected a number >= 0.*found 1e\+308"),
        ("Velo: sporty", '"": sporty', "a name of every colour and brand; found an empty one"),
        ('"Easy to clean."', '""', r"care\.0: expected text that is not empty"),
        ("[small, medium", '["", medium', r"sizes\.0: expected text that is not empty"),
        ("words: [nordic, ", 'words: ["", ', r"words\.0: expected text that is not empty"),
    ],
)
def test_a_grammar_with_an_impossible_value_is_refused(tmp_path, old, new, says):
    broken = tmp_path / "grammar.yaml"
    assert old in GRAMMAR.read_text()
    broken.write_text(GRAMMAR.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=says):
        read_grammar(broken)
