"""Broken lines of JSON are counted in every source, and too many of them refuse the file."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.catalog.raw_files import form_params, histories, titles, write_form

from sidflow.catalog import json_files
from sidflow.catalog.ingest import ingest
from sidflow.catalog.json_files import JsonLines, RepeatedNames, read_json
from sidflow.core.errors import InputError

USERS = [f"u{row}" for row in range(8)]
EVENTS = [(user, item) for user in USERS for item in ("x", "y")]
ITEMS = [("x", "X"), ("y", "Y")] + [(f"i{row}", "more") for row in range(8)]

BROKEN = [
    "{broken",
    '{"user": "a", "items": ["x"',
    '{"reviewerID": "a", "asin": "x", "overall": 5.0, "unixRev',
    "[1, 2]",
    '"text"',
    "7",
    "null",
    "\0\0\0\0",
    "{} {}",
    '{"user": "a", "user": "b", "reviewerID": 1, "item": 1, "item": 2, "items": []}',
    "[" * 100_000,
    '{"user": "z", "items": ["x"], "item": "x", "title": ' + "[" * 500 + "]" * 500 + "}",
    '{"user": "z", "items": ["x"], "item": "x", "title": ' + "[" * 64 + "]" * 64 + "}",
]
LITERALS = [
    "{'asin': 'x', 'title': {['X']: 1}}",
    "{'asin': 'x', 'title': 0x%s}" % ("f" * 5000),
    "{'asin': 0x%s, 'title': 'X'}" % ("f" * 5000),
    "{'asin': 'x', 'title': 0x%s + 1j}" % ("f" * 5000),
]
FILES = [
    ("jsonl", "sequences.jsonl", "sequences_bad_lines"),
    ("jsonl", "items.jsonl", "items_bad_lines"),
    ("jsonl.gz", "sequences.jsonl.gz", "sequences_bad_lines"),
    ("jsonl.gz", "items.jsonl.gz", "items_bad_lines"),
    ("amazon-2014", "reviews.json", "reviews_bad_lines"),
    ("amazon-2018", "meta.json", "metadata_bad_lines"),
    ("amazon-2023", "reviews.json", "reviews_bad_lines"),
    ("amazon-2023", "meta.json", "metadata_bad_lines"),
    ("movielens", "details.jsonl", "details_bad_lines"),
]


def add_lines(path, lines, *, cut=False):
    """Put lines after the first of a file; with `cut` the last has no end."""
    zipped = path.suffix == ".gz"
    content = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
    first, _, rest = content.partition(b"\n")
    added = "".join(line + "\n" for line in lines).encode()
    content = first + b"\n" + rest + added.removesuffix(b"\n") if cut else first + b"\n" + added + rest
    path.write_bytes(gzip.compress(content) if zipped else content)


def write_all(folder, form):
    write_form(folder, form, EVENTS, ITEMS)
    if form == "movielens":
        rows = [json.dumps({"movieId": key, "plot": title}) + "\n" for key, title in ITEMS]
        (folder / "details.jsonl").write_text("".join(rows))


@pytest.mark.parametrize("line", BROKEN, ids=lambda line: line[:20])
@pytest.mark.parametrize(("form", "name", "count"), FILES)
@pytest.mark.parametrize("cut", [False, True])
def test_a_broken_line_is_counted(tmp_path, form, name, count, line, cut):
    write_all(tmp_path, form)
    add_lines(tmp_path / name, [line], cut=cut)
    catalog = ingest(form_params(tmp_path, form))
    assert histories(catalog) == {user: ["x", "y"] for user in USERS}
    assert (titles(catalog)["x"], titles(catalog)["y"]) == ("X", "Y")
    assert catalog.report[count] == 1
    assert f"{count} 1" in catalog.summary()


@pytest.mark.parametrize("line", LITERALS, ids=lambda line: line[:40])
def test_a_broken_literal_is_counted(tmp_path, line):
    write_all(tmp_path, "amazon-2014")
    add_lines(tmp_path / "meta.json", [line])
    catalog = ingest(form_params(tmp_path, "amazon-2014"))
    assert (titles(catalog)["x"], catalog.report["metadata_bad_lines"]) == ("X", 1)


def test_signs_inside_of_texts_do_not_make_a_line_deep(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": "%s"}\n' % ("[{" * 500))
    assert len(list(JsonLines(tmp_path / "x.jsonl"))) == 1


@pytest.mark.parametrize(("form", "name", "count"), FILES)
def test_too_many_broken_lines_refuse_the_file(tmp_path, form, name, count):
    write_all(tmp_path, form)
    lines = 16 if name == "reviews.json" else 8 if "sequences" in name else 10
    add_lines(tmp_path / name, ["{broken"] * 8)
    if lines == 8:
        assert ingest(form_params(tmp_path, form)).report[count] == 8  # half of the lines
    add_lines(tmp_path / name, ["{broken"] * 3)
    with pytest.raises(InputError, match=rf"{name}: expected few broken lines.*found 11 of {lines + 11}"):
        ingest(form_params(tmp_path, form))
    lenient = ingest(form_params(tmp_path, form, max_bad_lines=1)) if lines > 11 else None
    assert lenient is None or lenient.report[count] == 11


def test_the_share_of_broken_lines_is_a_param(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n' * 1089 + "{broken\n" * 11)
    assert len(list(JsonLines(path))) == 1089
    with pytest.raises(InputError, match=r"at most 10 or 0\.90%.*line 1090: \{broken"):
        list(JsonLines(path, max_bad_share=0.009))


def test_blank_lines_are_no_lines(tmp_path):
    write_all(tmp_path, "amazon-2018")
    for name in ("reviews.json", "meta.json"):
        add_lines(tmp_path / name, ["", "  ", "\r"])
    catalog = ingest(form_params(tmp_path, "amazon-2018"))
    assert (catalog.report["reviews_bad_lines"], catalog.report["metadata_bad_lines"]) == (0, 0)
    add_lines(tmp_path / "reviews.json", ["{broken"])
    assert ingest(form_params(tmp_path, "amazon-2018")).report["reviews_bad_lines"] == 1


@pytest.mark.parametrize("length", [100, 5_000_000])
def test_a_line_that_is_too_long_is_counted(tmp_path, monkeypatch, length):
    monkeypatch.setattr(json_files, "MAX_LINE_CHARACTERS", 50)
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": "' + "x" * length + '"}\n{"a": 2}\n')
    lines = JsonLines(path)
    assert [row["a"] for row in lines] == [1, 2]
    assert lines.bad == 1


@pytest.mark.parametrize(
    ("form", "name", "old", "param"),
    [
        ("jsonl", "items.jsonl", '"item"', "ingest.sequences.item"),
        ("jsonl", "sequences.jsonl", '"user"', "ingest.sequences.user"),
        ("jsonl", "sequences.jsonl", '"items"', "ingest.sequences.history"),
        ("amazon-2018", "meta.json", '"asin"', "raw file"),
        ("movielens", "details.jsonl", '"movieId"', "ingest.movielens.details"),
    ],
)
def test_another_name_of_the_key_is_told_with_the_param(tmp_path, form, name, old, param):
    write_all(tmp_path, form)
    path = tmp_path / name
    path.write_text(path.read_text().replace(old + ":", '"product":'))
    with pytest.raises(InputError, match=rf"{name}: expected .*{old[1:-1]}.*found .*'product'.*{param}"):
        ingest(form_params(tmp_path, form))


def test_names_of_keys_are_params(tmp_path):
    (tmp_path / "sequences.jsonl").write_text('{"uid": 1, "history": ["a", "b"]}\n')
    (tmp_path / "items.jsonl").write_text('{"sku": "a", "title": "A"}\n{"sku": "b", "title": "B"}\n')
    names = {"user": "uid", "history": "history", "item": "sku"}
    catalog = ingest(form_params(tmp_path, "jsonl", sequences=names))
    assert histories(catalog) == {"1": ["a", "b"]}
    assert titles(catalog) == {"a": "A", "b": "B"}
    assert catalog.items["attributes"].to_list() == [[], []]


def test_items_of_json_that_are_no_objects_are_counted(tmp_path):
    (tmp_path / "B.inter.json").write_text('{"1": [1, 2, 3]}')
    (tmp_path / "B.item.json").write_text('{"1": {"title": "A"}, "2": {"title": "B"}, "3": "C"}')
    catalog = ingest(form_params(tmp_path, "letter"))
    assert (titles(catalog)["2"], catalog.report["items_bad_lines"]) == ("B", 1)
    (tmp_path / "B.item.json").write_text('{"1": "A", "2": "B", "3": {"title": "C"}}')
    with pytest.raises(InputError, match=r"B\.item\.json: expected few broken.*2 of 3"):
        ingest(form_params(tmp_path, "letter"))


def test_a_field_with_two_values_spoils_a_review(tmp_path):
    write_form(tmp_path, "amazon-2018", EVENTS, ITEMS)
    line = {"reviewerID": "a", "asin": "x", "overall": 5.0, "unixReviewTime": 1, "summary": "asin"}
    twice = json.dumps(line)[:-1] + ', "reviewerID": "b"}'
    add_lines(tmp_path / "reviews.json", [twice])
    catalog = ingest(form_params(tmp_path, "amazon-2018"))
    assert (catalog.report["reviews_bad_lines"], catalog.users.height) == (1, len(USERS))
    add_lines(tmp_path / "reviews.json", [json.dumps(line)])
    catalog = ingest(form_params(tmp_path, "amazon-2018"))
    assert (catalog.report["reviews_bad_lines"], catalog.users.height) == (1, len(USERS) + 1)


def test_names_with_two_values_are_seen(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": 1, "b": 2, "a": 3}')
    content = read_json(path)
    assert isinstance(content, RepeatedNames)
    assert content.pairs == [("a", 1), ("b", 2), ("a", 3)]
    path.write_text('{"a": "long", "b": "x", "a": "", "b": "y"}')
    assert read_json(path) == {"a": "long", "b": "x"}
    path.write_text('{"a": 1, "a": 1}')
    assert not isinstance(read_json(path), RepeatedNames)


def test_a_name_that_stands_often_takes_time_in_proportion_to_its_values():
    class Value(str):
        written = 0

        def __str__(self):
            Value.written += 1
            return self

    pairs = [("a", Value("x" * length)) for length in (3, 9, 1, 9, 4, 2)]
    assert RepeatedNames(pairs)["a"] is pairs[1][1]
    assert Value.written == len(pairs)


@pytest.mark.parametrize("limit", [json_files.MAX_DEPTH, 100_000])
def test_a_json_file_that_is_too_deep_is_refused_before_it_is_parsed(tmp_path, monkeypatch, limit):
    path = tmp_path / "B.inter.json"
    path.write_text('{"a": ' + "[" * limit + "]" * limit + "}")
    monkeypatch.setattr(json_files.json, "loads", None)
    with pytest.raises(InputError, match=f"at most 64 objects and lists inside one another; found {limit + 1}"):
        read_json(path)


@given(
    st.recursive(
        st.text(alphabet='[]{}"\\a\n', max_size=6) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[{"\\', max_size=3), inner, max_size=3)
        ),
        max_leaves=12,
    )
)
def test_the_depth_is_that_of_the_parsed_value(value):
    def depth(one):
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert json_files.json_depth(json.dumps(value).encode()) == depth(value)


@pytest.mark.parametrize("name", ["B.inter.json", "B.inter.json.gz"])
def test_a_json_file_that_is_too_large_is_refused_before_it_is_parsed(tmp_path, monkeypatch, name):
    content = b'{"a": ["' + b"x" * 100 + b'"]}'
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    monkeypatch.setattr(json_files, "MAX_FILE_BYTES", len(content))
    assert read_json(path) == {"a": ["x" * 100]}
    monkeypatch.setattr(json_files, "MAX_FILE_BYTES", len(content) - 1)
    monkeypatch.setattr(json_files.json, "loads", None)
    with pytest.raises(InputError, match=r"a JSON file of at most .* MB; found more.*\.jsonl"):
        read_json(path)
