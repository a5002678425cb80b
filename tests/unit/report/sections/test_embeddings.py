"""The section of the encoders: every number is one of the audit, at its own place."""

from tests.unit.report.cases import report_data
from tests.unit.report.reading import classed, fixed, heads_of, parse, rows_of, section, share, text_of

from sidflow.report.glossary import Glossary
from sidflow.report.sections.embeddings import embeddings_section
from sidflow.report.sections.examples import Gallery

DASH = "\u2013"
FIGURES = ("items", "vectors", "width", "effective_rank", "mean_cosine", "duplicates", "norm_spread")
UNKNOWN = dict.fromkeys(FIGURES)


def test_the_figures_of_each_encoder(data, page):
    part = section(page, "Embeddings")
    assert heads_of(part) == [
        *("", "items", "vectors", "dimensions", "effective rank", "mean cosine", "duplicates", "spread of lengths")
    ]
    rows = rows_of(part)
    assert list(rows) == ["tfidf", "pictures"]
    for name, cells in rows.items():
        own = data.embeddings["encoders"][name]
        assert [text_of(cell) for cell in cells] == [
            str(own["items"]),
            str(own["vectors"]),
            f"{own['width']:,}".replace(",", "\u2009"),
            DASH if own["effective_rank"] is None else fixed(own["effective_rank"], 1),
            fixed(own["mean_cosine"], 3),
            str(own["duplicates"]),
            fixed(own["norm_spread"], 3),
        ]


def test_the_agreement_of_each_pair_and_cooccurrence_last(data, page):
    part = section(page, "Embeddings")
    assert text_of(part.findall("h3")[0]) == "Agreement on the 7 nearest items"
    titles = {"tfidf": "tfidf", "pictures": "pictures", "cooccurrence": "co-occurrence"}
    assert heads_of(part, 1) == ["", *titles.values()]
    rows = rows_of(part, 1)
    assert list(rows) == list(titles.values())
    for name, title in titles.items():
        agreement = data.embeddings["agreement"][name]
        assert [text_of(cell) for cell in rows[title]] == [
            "" if other == name else share(agreement[other], digits=0) for other in titles
        ]


def test_items_stand_above_their_nearest_in_each_encoder(data, page):
    part = section(page, "Embeddings")
    assert text_of(part.findall("h3")[1]) == "Nearest items"
    assert text_of(classed(part, "p", "note")[0]).startswith("Evenly spaced through the catalogue. Nearest first")
    titles = [title or f"item {key}" for title, key in data.items.select("title", "item_key").iter_rows()]
    shown = [entry for entry in data.embeddings["gallery"] if entry["nearest"]]
    assert len(shown) == 2  # one item has no nearest in any
    for entry, card in zip(shown, part.findall("article"), strict=True):
        assert text_of(card.find("h3")) == titles[entry["item"]]
        own, *blocks = [one for one in card if one.tag in ("div", "p")]
        encoders = sorted(entry["nearest"], key=["tfidf", "pictures", "cooccurrence"].index)
        names = [text_of(one) for one in card.findall("h4")]
        assert names == [name.replace("cooc", "co-oc") for name in encoders]
        assert [text_of(one.find("figcaption")) for one in own] == [titles[entry["item"]]]
        for tile in card.iter("figure"):
            assert text_of(classed(tile, "span", "face")[0]) in ("", text_of(tile.find("figcaption")))
        for name, block in zip(encoders, blocks, strict=True):
            nearest = [titles[item] for item in entry["nearest"][name]]
            assert [text_of(one) for one in block.iter("figcaption")] == nearest
            assert block.get("class") == ("strip" if nearest else "absent")
            if not nearest:
                assert text_of(block) == "Nothing near."


def made(**audit):
    data = report_data()._replace(embeddings=audit)
    return embeddings_section(data, Gallery({}, {2: "title <2>", 5: "title <5>"}, 32, 80), Glossary(data))


def test_names_and_titles_are_escaped():
    text = made(
        neighbours=7,
        encoders={"words<": UNKNOWN},
        agreement={"words<": {}},
        gallery=[{"item": 2, "nearest": {"words<": [5]}}],
    )
    part = parse(str(text))
    assert list(rows_of(part)) == ["words<"]
    assert [text_of(one) for one in part.iter("figcaption")] == ["title <2>", "title <5>"]


def test_without_items_to_show_there_are_no_cards():
    text = made(neighbours=7, encoders={"e": UNKNOWN}, agreement={"e": {}}, gallery=[{"item": 2, "nearest": {}}])
    part = parse(str(text))
    assert [text_of(one) for one in part.findall("h3")] == ["Agreement on the 7 nearest items"]
    assert not classed(part, "p", "note")
    assert [text_of(cell) for cell in rows_of(part)["e"]] == [DASH] * 7


def test_without_encoders_there_is_no_section():
    assert made() is None
    assert made(encoders={}, agreement={}, gallery=[], neighbours=10) is None
