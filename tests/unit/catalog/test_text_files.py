"""Encodings, byte order marks, gzip: read right, or refused with the file and the line."""

import codecs
import gzip

import pytest
from tests.unit.catalog.raw_files import FORMS, TEXT_FORMS, form_params, histories, titles, write_form

from sidflow.catalog.ingest import ingest
from sidflow.catalog.reading import DataFolder
from sidflow.catalog.text_files import numbered_lines
from sidflow.core.errors import InputError

EVENTS = [("José", "café"), ("José", "thé"), ("Josè", "thé")]
ITEMS = [("café", "Un café"), ("thé", "Un thé")]
WANTED = {"José": ["café", "thé"], "Josè": ["thé"]}


@pytest.mark.parametrize("form", TEXT_FORMS)
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_other_bytes_merge_no_keys(tmp_path, form, encoding):
    write_form(tmp_path, form, EVENTS, ITEMS, encoding=encoding)
    with pytest.raises(
        InputError, match=r"text in UTF-8; found other bytes in line [12], for example.*ingest.encoding"
    ):
        ingest(form_params(tmp_path, form))
    catalog = ingest(form_params(tmp_path, form, encoding=encoding))
    assert histories(catalog) == WANTED
    assert titles(catalog) == dict(ITEMS)


@pytest.mark.parametrize("form", TEXT_FORMS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("declared", ["utf-8", "cp1252"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, form, encoding, declared):
    write_form(tmp_path, form, EVENTS, ITEMS, encoding=encoding)
    catalog = ingest(form_params(tmp_path, form, encoding=declared))
    assert histories(catalog) == WANTED
    assert titles(catalog) == dict(ITEMS)


@pytest.mark.parametrize(
    ("encoding", "line"), [("cp1252", b"b,\x81,3"), ("gb18030", b"b,\xff,3"), ("utf-8", b"b,\xe9,3")]
)
def test_bytes_that_are_not_in_the_declared_encoding_are_named_by_line(tmp_path, encoding, line):
    (tmp_path / "interactions.csv").write_bytes(b"user_id,item_id,timestamp\na,x,1\n" + line + b"\nc,x,4\n")
    with pytest.raises(InputError, match=rf"text in (?i:{encoding}); found other bytes in line 3, for example b'b,"):
        ingest(form_params(tmp_path, "csv", encoding=encoding))


@pytest.mark.parametrize("form", ["csv", "tsv", "movielens"])
def test_utf16_without_a_mark_is_refused(tmp_path, form):
    write_form(tmp_path, form, EVENTS, ITEMS, encoding="utf-16-le")
    with pytest.raises(InputError, match=r"NUL byte: UTF-16 without|found other bytes"):
        ingest(form_params(tmp_path, form))


def test_marks_inside_joined_files_belong_to_no_key(tmp_path):
    mark = codecs.BOM_UTF8.decode()
    (tmp_path / "interactions.csv").write_text(f"user_id,item_id,timestamp\nann,x,1\n{mark}ann,y,2\n")
    assert histories(ingest(form_params(tmp_path, "csv"))) == {"ann": ["x", "y"]}
    (tmp_path / "a").mkdir()
    line = '{"reviewerID": "ann", "asin": "%s", "overall": 5, "unixReviewTime": %d}\n'
    (tmp_path / "a/B.json").write_text(mark + line % ("x", 1) + mark + line % ("y", 2))
    catalog = ingest(form_params(tmp_path / "a", "amazon"))
    assert (histories(catalog), catalog.report["reviews_bad_lines"]) == ({"ann": ["x", "y"]}, 0)
    (tmp_path / "j").mkdir()
    lines = ['{"user": 7, "items": [1, 2]}\n', '{"user": 8, "items": [2]}\n']
    (tmp_path / "j/sequences.jsonl").write_text(mark + mark.join(lines))
    catalog = ingest(form_params(tmp_path / "j", "jsonl"))
    assert (catalog.users["user_key"].to_list(), catalog.report["sequences_bad_lines"]) == (["7", "8"], 0)
    (tmp_path / "s").mkdir()
    (tmp_path / "s/s.txt").write_text(f"{mark}7 1 2\n{mark}8 2\n")
    assert histories(ingest(form_params(tmp_path / "s", "letter"))) == {"7": ["1", "2"], "8": ["2"]}


def cut(content):
    return content[: len(content) // 2]


def damage(content):
    return content[:12] + bytes(byte ^ 255 for byte in content[12:-8]) + content[-8:]


@pytest.mark.parametrize("spoil", [cut, damage, gzip.decompress, lambda content: b""])
@pytest.mark.parametrize("form", ["csv.gz", "jsonl.gz"])
@pytest.mark.parametrize("name", ["interactions", "items"])
def test_broken_gzip_ends_in_one_line(tmp_path, spoil, form, name):
    write_form(tmp_path, form, [("ann", f"i{row}") for row in range(50)], [(f"i{row}", "x") for row in range(50)])
    path = tmp_path / f"{name if form == 'csv.gz' or name == 'items' else 'sequences'}.{form}"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=rf"{path.name}: expected .*gzip.*download it again"):
        ingest(form_params(tmp_path, form))


@pytest.mark.parametrize("form", ["csv", "jsonl", "amazon-2018", "letter", "movielens"])
def test_gzip_under_another_name_says_so(tmp_path, form):
    write_form(tmp_path, form, [("ann", "x")], [("x", "X")])
    for path in tmp_path.iterdir():
        path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match=r"not compressed, as its name says; found gzip.*rename it to"):
        ingest(form_params(tmp_path, form))


def test_a_line_without_end_is_not_kept_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("sidflow.catalog.text_files.MAX_LINE_BYTES", 20)
    (tmp_path / "x.txt").write_text("short\n" + "long" * 30 + "\nlast\n")
    assert list(numbered_lines(tmp_path / "x.txt")) == [(1, "short\n"), (2, None), (3, "last\n")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["set[12]", "data [2023]", "all*", "what?", "{a,b}", "~", "a#b%20c", "year=2023"])
def test_folder_names_are_no_patterns(tmp_path, form, name):
    write_form(tmp_path / name, form, [("ann", "lamp"), ("ann", "chair")], [("lamp", "Lamp")] * 2 + [("chair", "C")])
    for decoy in ("set1", "set2", "data 2", "all", "allx", "whatx", "a", "b"):
        write_form(tmp_path / decoy, form, [("decoy", "decoy")], [("decoy", "decoy")])
    assert histories(ingest(form_params(tmp_path / name, form))) == {"ann": ["lamp", "chair"]}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_is_found_by_a_name_that_looks_like_a_pattern(tmp_path, suffix):
    write_form(tmp_path, suffix, [("ann", "lamp")])
    (tmp_path / f"interactions.{suffix}").rename(tmp_path / f"orders[1].{suffix}")
    write_form(tmp_path, suffix, [("decoy", "decoy")])
    (tmp_path / f"interactions.{suffix}").rename(tmp_path / f"orders1.{suffix}")
    files = {"interactions": f"orders[1].{suffix}"}
    assert histories(ingest(form_params(tmp_path, suffix, files=files))) == {"ann": ["lamp"]}
    assert histories(ingest(form_params(tmp_path / f"orders[1].{suffix}", suffix))) == {"ann": ["lamp"]}
    assert DataFolder(tmp_path).match_files("orders?.csv") == sorted(tmp_path.glob("orders1.csv"))
