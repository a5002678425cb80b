"""Writes the same events and item texts in every form that a source reads."""

import csv
import gzip
import io
import json
from pathlib import Path

import polars as pl

from sidflow.catalog.params import IngestParams

# What `files` reads as text, what it reads as Parquet, and the JSON and text of the other sources.
FILES = ("csv", "tsv", "csv.gz")
JSON = ("letter", "jsonl", "jsonl.gz", "amazon-2014", "amazon-2018", "amazon-2023")
TEXT_FORMS = (*FILES, *JSON, "movielens")
FORMS = (*TEXT_FORMS, "parquet")


def write_form(folder: Path, form: str, events, items=(), *, encoding="utf-8"):
    """Write (user, item) pairs in time order and (item, title) pairs; values that are no text stay what they are."""
    folder.mkdir(parents=True, exist_ok=True)
    if form in FILES:
        rows = [(user, item, time) for time, (user, item) in enumerate(events, start=1)]
        _write_table(folder / f"interactions.{form}", ["user_id", "item_id", "timestamp"], rows, encoding)
        _write_table(folder / f"items.{form}", ["item_id", "title"], items, encoding)
    elif form == "parquet":
        users, keys = [user for user, _ in events], [item for _, item in events]
        times = list(range(1, len(events) + 1))
        pl.DataFrame({"user_id": users, "item_id": keys, "timestamp": times}).write_parquet(
            folder / "interactions.parquet"
        )
        if items:
            pl.DataFrame({"item_id": [key for key, _ in items], "title": [title for _, title in items]}).write_parquet(
                folder / "items.parquet"
            )
    elif form == "movielens":
        rows = [(user, item, 5, time) for time, (user, item) in enumerate(events, start=1)]
        _write_table(folder / "ratings.csv", ["userId", "movieId", "rating", "timestamp"], rows, encoding)
        films = [(key, title, "Drama") for key, title in items]
        _write_table(folder / "movies.csv", ["movieId", "title", "genres"], films, encoding)
    elif form == "letter":
        _write(folder / "B.inter.json", _pairs((user, list(one)) for user, one in _sequences(events)), encoding)
        _write(folder / "B.item.json", _pairs((key, {"title": title}) for key, title in items), encoding)
    elif form.startswith("jsonl"):
        sequences = [{"user": user, "items": list(one)} for user, one in _sequences(events)]
        _write_lines(folder / f"sequences.{form}", sequences, encoding)
        if items:
            _write_lines(folder / f"items.{form}", [{"item": key, "title": title} for key, title in items], encoding)
    else:
        new = form == "amazon-2023"
        names = ("user_id", "parent_asin", "rating", "timestamp") if new else ("reviewerID", "asin", "overall")
        reviews = [
            dict(zip((*names, "unixReviewTime"), (user, item, 5.0, time * (1000 if new else 1)), strict=False))
            for time, (user, item) in enumerate(events, start=1)
        ]
        _write_lines(folder / "reviews.json", reviews, encoding)
        if items:
            key_name = "parent_asin" if new else "asin"
            _write_lines(folder / "meta.json", [{key_name: key, "title": title} for key, title in items], encoding)


def form_params(folder: Path, form: str, **rest) -> IngestParams:
    """Return params that read what `write_form` wrote; every event enters the core."""
    if form in FILES or form == "parquet":
        source = "files"
    else:
        source = "sequences" if form.startswith(("letter", "jsonl")) else form.partition("-")[0]
    content = {"source": source, "path": str(folder), "min_user_events": 1, "min_item_events": 1}
    return IngestParams.model_validate(content | rest)


def histories(catalog):
    """Return the items of each user in order, by key."""
    joined = catalog.interactions.join(catalog.users, on="user_id").join(catalog.items, on="item_id")
    joined = joined.sort("user_id", "position")
    return {key[0]: rows["item_key"].to_list() for key, rows in joined.group_by("user_key", maintain_order=True)}


def titles(catalog):
    """Return the titles by item key."""
    return dict(catalog.items.select("item_key", "title").iter_rows())


def _sequences(events):
    """Return (user, items) with the users' values as they were; users are told apart by their text."""
    users = {str(user): user for user, _ in events}
    return [(value, [item for user, item in events if str(user) == name]) for name, value in users.items()]


def _pairs(pairs):
    """Return the text of a JSON object, in which a name may stand twice."""
    return "{" + ", ".join(f"{json.dumps(str(key), ensure_ascii=False)}: {_json(value)}" for key, value in pairs) + "}"


def _json(value):
    return json.dumps(value, ensure_ascii=False)


def _write_lines(path, rows, encoding):
    _write(path, "".join(_json(row) + "\n" for row in rows), encoding)


def _write_table(path, header, rows, encoding):
    if not rows:
        return
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t" if ".tsv" in path.name else ",", lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    _write(path, stream.getvalue(), encoding)


def _write(path, text, encoding):
    content = text.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
