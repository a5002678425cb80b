"""Events, texts and pictures meet by key, and where they don't the stage says so."""

import pytest
from PIL import Image
from tests.unit.catalog.raw_files import FORMS, form_params, titles, write_form

from sidflow.catalog.ingest import ingest
from sidflow.catalog.joins import fullest_rows
from sidflow.catalog.raw import items_frame
from sidflow.core.errors import InputError


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("of_items", "hint"),
    [
        (["p", "q", "r"], "give the texts of the same items"),
        (["00010", "00011", "00012"], "leading zeros"),
    ],
)
def test_texts_that_meet_no_event_are_refused(tmp_path, form, of_items, hint):
    write_form(tmp_path, form, [("ann", "10"), ("ann", "11"), ("ann", "12")], [(key, "T") for key in of_items])
    with pytest.raises(
        InputError, match=rf"rows of text for the items.*'10' in the events and '{of_items[0]}'.*{hint}"
    ):
        ingest(form_params(tmp_path, form))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("described", "warned"), [(1, True), (7, True), (8, False), (10, False)])
def test_texts_that_meet_few_items_are_warned_of(tmp_path, form, described, warned):
    events = [("ann", f"0{row}") for row in range(10)]
    items = [(f"0{row}", "T") for row in range(described)] + [(str(row), "T") for row in range(described, 10)]
    write_form(tmp_path, form, events, items + [("outside", "T")] * 1)
    catalog = ingest(form_params(tmp_path, form))
    assert catalog.report["core_items_with_text"] == described
    assert catalog.report["core_text_share"] == described / 10
    warnings = [warning for warning in catalog.warnings if "row of text" in warning]
    assert len(warnings) == warned
    if warned:
        assert f"only {described} of 10 items of the core" in warnings[0]
        assert "leading zeros" in warnings[0]


@pytest.mark.parametrize("form", [form for form in FORMS if form != "movielens"])
@pytest.mark.parametrize(("described", "warned"), [(0, True), (7, True), (8, False)])
def test_rows_without_text_are_warned_of(tmp_path, form, described, warned):
    items = [(f"i{row}", "T" if row < described else "") for row in range(10)]
    write_form(tmp_path, form, [("ann", key) for key, _ in items], items)
    catalog = ingest(form_params(tmp_path, form))
    assert catalog.report["core_items_with_text"] == described
    warning = f"only {described} of 10 items of the core have a title or description"
    assert (warning in catalog.warnings) == warned


@pytest.mark.parametrize(
    ("form", "name", "text", "says"),
    [
        ("csv", "items.csv", "item_id,name\nx,X\n", r"a column of title, .*\['item_id', 'name'\].*ingest.files.title"),
        ("csv", "items.csv", "item_id,title\n", "rows of items; found none"),
        ("letter", "B.item.json", "{}", "rows of items; found none"),
        ("movielens", "movies.csv", "movieId,title,genres\n", "rows of items; found none"),
        ("jsonl", "items.jsonl", "\n", "one JSON object per line, with `item`; found none"),
        ("amazon-2018", "meta.json", "", "one JSON object per line, with `parent_asin` or `asin`; found none"),
    ],
)
def test_items_files_that_say_nothing_are_refused(tmp_path, form, name, text, says):
    write_form(tmp_path, form, [("ann", "x")], [("x", "X")])
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=rf"{name}: expected {says}"):
        ingest(form_params(tmp_path, form))


def test_case_and_accents_are_told(tmp_path):
    for name, of_items, hint in (("case", "B00x", "case"), ("accents", "cafe\u0301", "accents")):
        write_form(tmp_path / name, "csv", [("ann", {"case": "b00X", "accents": "caf\u00e9"}[name])], [(of_items, "T")])
        with pytest.raises(InputError, match=hint):
            ingest(form_params(tmp_path / name, "csv"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", [1, -1])
def test_of_several_rows_of_an_item_the_fullest_is_used(tmp_path, form, order):
    rows = [("x", ""), ("x", "A whole title"), ("x", "Title")][::order]
    if form == "movielens":
        rows = [(key, title or "-") for key, title in rows]
    write_form(tmp_path, form, [("ann", "x"), ("ann", "y")], [*rows, ("y", "Y")])
    catalog = ingest(form_params(tmp_path, form))
    assert titles(catalog) == {"x": "A whole title", "y": "Y"}
    assert catalog.report["items_duplicate_rows"] == 2
    assert "items_duplicate_rows 2" in catalog.summary()


def test_more_fields_are_more_than_longer_ones():
    frame = items_frame(
        {
            "item_key": ["b", "a", "b", "b", "a"],
            "title": ["long title", "first", "t", "s", "later"],
            "description": ["", "", "d", "", ""],
            "categories": [[], [], [], ["c"], []],
        }
    )
    fullest = fullest_rows(frame)
    assert fullest.items.select("item_key", "title").rows() == [("a", "first"), ("b", "t")]
    assert fullest.duplicates == 3
    attributes = [[], [{"name": "size", "value": "L"}]]
    one = items_frame({"item_key": ["a", "a"], "title": ["t", "t"], "attributes": attributes})
    assert fullest_rows(one).items["attributes"].to_list() == [attributes[1]]
    assert fullest_rows(one).items.schema == one.schema


def test_pictures_that_belong_to_no_item(tmp_path):
    write_form(tmp_path, "csv", [("ann", "10"), ("ann", "11")])
    (tmp_path / "images").mkdir()
    for name in ("0010", "0011"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"images/{name}.png")
    with pytest.raises(InputError, match=r"pictures that have the keys of items.*'0010' is no item.*leading zeros"):
        ingest(form_params(tmp_path, "csv"))
    (tmp_path / "images/0010.png").rename(tmp_path / "images/10.png")
    catalog = ingest(form_params(tmp_path, "csv"))
    assert catalog.report["items_with_picture"] == 1
    assert catalog.report["pictures_of_no_item"] == 1
    assert "pictures_of_no_item 1" in catalog.summary()


def test_pictures_have_the_spelling_of_keys_and_a_second_one_is_counted(tmp_path):
    write_form(tmp_path, "csv", [("ann", "10.0"), ("ann", "11")])
    (tmp_path / "images").mkdir()
    for name, side in (("10.0.png", 8), ("10.jpg", 9), (" 11 .png", 10)):
        Image.new("RGB", (side, side)).save(tmp_path / "images" / name)
    catalog = ingest(form_params(tmp_path, "csv"))
    assert catalog.images["width"].to_list() == [8, 10]
    assert catalog.report["pictures_of_same_item"] == 1
    assert "pictures_of_same_item 1" in catalog.summary()


@pytest.mark.parametrize(
    ("source", "rating", "kept"),
    [
        ("amazon", "NaN", False), ("amazon", "Infinity", False), ("amazon", "null", False), ("amazon", '"5"', True),
        ("amazon", "true", False), ("amazon", "1e999", False), ("amazon", "3.9", False), ("amazon", "4", True),
    ],
)  # fmt: skip
def test_no_rating_that_is_no_number_passes_the_filter(tmp_path, source, rating, kept):
    line = '{"reviewerID": "ann", "asin": "%s", "overall": %s, "unixReviewTime": %d}\n'
    (tmp_path / "B.json").write_text(line % ("x", 5, 1) + line % ("y", rating, 2) + line % ("z", 5, 3))
    catalog = ingest(form_params(tmp_path, source, amazon={"min_rating": 4}))
    assert catalog.report["interactions"] == 2 + kept
    assert catalog.report["reviews_bad_lines"] + catalog.report["reviews_too_low"] == 1 - kept


@pytest.mark.parametrize("rating", ["NaN", "inf", "", "good"])
def test_movielens_refuses_ratings_that_are_no_numbers(tmp_path, rating):
    (tmp_path / "ratings.csv").write_text(f"userId,movieId,rating,timestamp\n1,2,5,1\n1,3,{rating},2\n")
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n2,A,x\n3,B,y\n")
    with pytest.raises(InputError, match=r"Float64 in column rating.*row 2"):
        ingest(form_params(tmp_path, "movielens"))


def test_of_several_details_of_a_film_the_longest_counts(tmp_path):
    write_form(tmp_path, "movielens", [("1", "2")], [("2", "A")])
    for order in (1, -1):
        lines = ['{"movieId": 2, "plot": "A long plot."}\n', '{"movieId": "2.0", "plot": ""}\n'][::order]
        (tmp_path / "details.jsonl").write_text("".join(lines))
        catalog = ingest(form_params(tmp_path, "movielens"))
        assert catalog.items["description"].to_list() == ["A long plot."]
        assert catalog.report["details_duplicate_rows"] == 1


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_info_lines_of_an_item_the_longest_title_counts(tmp_path, order):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/A.csv").write_text('user_id,history_item_id,item_id\nu,"[1]",2\n')
    (tmp_path / "info").mkdir()
    lines = ["code\tA long title\t1\n", "code\t\t1\n", "code\tB\t2\n"][::order]
    (tmp_path / "info/A.txt").write_text("".join(lines))
    catalog = ingest(form_params(tmp_path, "minionerec"))
    assert titles(catalog) == {"1": "A long title", "2": "B"}
    assert catalog.report["info_duplicate_lines"] == 1
