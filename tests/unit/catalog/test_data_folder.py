"""No source opens a file outside of the data folder: links, `..`, absolute paths, signs of patterns, file by file."""

import json

import pytest
from PIL import Image

from sidflow.catalog.ingest import read_source
from sidflow.catalog.params import IngestParams
from sidflow.core import files
from sidflow.core.errors import InputError

REVIEW = json.dumps({"reviewerID": "A", "asin": "x", "overall": 5.0, "unixReviewTime": 1300000000}) + "\n"
HISTORY = "user_id,history_item_id,item_id\n0,\"['x', 'y']\",z\n"
PICTURE = "the bytes of a picture"
FORMS = {  # the files of each source; a picture is that of item x
    "movielens": {
        "ratings.csv": "userId,movieId,rating,timestamp\n1,x,4.0,1300000000\n",
        "movies.csv": "movieId,title,genres\nx,Heat (1995),Crime\n",
        "details.jsonl": '{"movieId": "x", "plot": "P"}\n',
        "posters/x.png": PICTURE,
    },
    "amazon": {"B.json": REVIEW, "meta_B.json": '{"asin": "x", "title": "T"}\n', "images/x.png": PICTURE},
    "sequences": {
        "sequences.jsonl": '{"user": 1, "items": ["x", "y"]}\n',
        "items.jsonl": '{"item": "x", "title": "T"}\n',
        "images/x.png": PICTURE,
    },
    "files": {
        "interactions.csv": "user_id,item_id,timestamp\na,x,1300000000\n",
        "items.csv": "item_id,title\nx,T\n",
        "images/x.png": PICTURE,
    },
    "recbole": {
        "b.inter": "user_id:token\titem_id:token\ttimestamp:float\na\tx\t1300000000\n",
        "b.item": "item_id:token\ttitle:token_seq\nx\tT\n",
        "images/x.png": PICTURE,
    },
    "minionerec": {
        "train/B.csv": HISTORY,
        "valid/B.csv": HISTORY,
        "test/B.csv": HISTORY,
        "info/B.txt": "<a_1>\tT\tx\n",
        "images/x.png": PICTURE,
    },
}
NAMES = [  # params that name a file or a folder
    ("movielens", "details"), ("movielens", "posters"), ("amazon", "reviews"), ("amazon", "metadata"),
    ("amazon", "images"), ("sequences", "sequences"), ("sequences", "items"), ("sequences", "images"),
    ("files", "interactions"), ("files", "items"), ("files", "images"), ("recbole", "interactions"),
    ("recbole", "items"), ("recbole", "images"), ("minionerec", "name"), ("minionerec", "images"),
]  # fmt: skip
EACH_FILE = [(source, name) for source, names in FORMS.items() for name in names]
EACH_FOLDER = [
    (source, folder)
    for source, names in FORMS.items()
    for folder in sorted({name.partition("/")[0] for name in names if "/" in name})
]


def write(folder, source):
    for name, text in FORMS[source].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is PICTURE:
            Image.new("RGB", (8, 8)).save(path)
        else:
            path.write_text(text)


def read(folder, source, **settings):
    return read_source(
        IngestParams.model_validate({"source": source, "path": str(folder)} | ({source: settings} if settings else {}))
    )


def opened():
    """Return what was opened, as real paths."""
    return {files.project_path(path).resolve() for path in files.paths_read()}


@pytest.mark.parametrize("source", FORMS)
def test_the_files_below_are_all_read(tmp_path, source):
    """What is held here is worth something: without a link each source takes its events, texts and picture."""
    write(tmp_path, source)
    catalog = read(tmp_path, source)
    assert catalog.events.height >= 1
    assert set(catalog.pictures) == {"x"}
    assert {path.name for path in opened()} == {name.rpartition("/")[2] for name in FORMS[source]} - {"x.png"}


@pytest.mark.parametrize(("source", "name"), EACH_FILE)
def test_a_file_that_is_a_link_out_of_the_folder_is_refused(tmp_path, source, name):
    data, secret = tmp_path / "data", tmp_path / "secret"
    write(data, source)
    secret.mkdir()
    (data / name).rename(secret / "kept")
    (data / name).symlink_to(secret / "kept")
    with pytest.raises(InputError, match="inside of the data folder"):
        read(data, source)
    assert secret / "kept" not in opened()


@pytest.mark.parametrize(("source", "name"), EACH_FOLDER)
def test_a_folder_that_is_a_link_out_of_the_folder_is_refused(tmp_path, source, name):
    data, secret = tmp_path / "data", tmp_path / "secret"
    write(data, source)
    secret.mkdir()
    (data / name).rename(secret / name)
    (data / name).symlink_to(secret / name)
    with pytest.raises(InputError, match="inside of the data folder"):
        read(data, source)
    assert not [path for path in opened() if path.is_relative_to(secret)]


@pytest.mark.parametrize(("source", "param"), NAMES)
@pytest.mark.parametrize("name", ["../{}", "{root}/secret/{}", "../[s]ecret/{}", "images/../../secret/{}"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, source, param, name):
    data, secret = tmp_path / "data", tmp_path / "secret"
    write(data, source)
    write(secret, source)
    with pytest.raises(InputError, match=r"inside of the data folder|a pattern of file names"):
        read(data, source, **{param: name.format("*", root=tmp_path)})
    assert not [path for path in opened() if path.is_relative_to(secret)]


@pytest.mark.parametrize("source", FORMS)
def test_signs_of_patterns_in_the_name_of_the_folder_are_letters(tmp_path, source):
    """`[ab]*` would also be the folders `a`, `b` and `a1`."""
    data = tmp_path / "[ab]*"
    for folder in (data, tmp_path / "a", tmp_path / "b1"):
        write(folder, source)
    read(data, source)
    assert all(path.is_relative_to(data) for path in opened())
