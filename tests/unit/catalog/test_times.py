"""Times in each form are seconds UTC; other units, other dates and times that cannot be are refused with a remedy."""

import datetime
import json
from pathlib import Path

import polars as pl
import pytest

from sidflow.artifacts.catalog import INTERACTIONS, clock_footer, has_clock
from sidflow.catalog.ingest import ingest
from sidflow.catalog.params import IngestParams
from sidflow.catalog.times import TimeColumn, positions, whole_seconds
from sidflow.core.errors import InputError
from sidflow.sequences.split import SplitParams, split_interactions

START = 1_577_836_800  # 2020-01-01


def column(values, unit="s", **kwargs):
    series = values if isinstance(values, pl.Series) else pl.Series(values, **kwargs)
    return TimeColumn(series, unit, Path("data.csv"), "at", "set ingest.files.timestamp_unit: UNIT")


@pytest.mark.parametrize(
    "values",
    [
        [START + 1, START + 2],
        [START + 1.9, START + 2.0],
        [f"{START + 1}", f"{START + 2}"],
        [f"{START + 1}.5", f"{START + 2}e0"],
        ["2020-01-01T00:00:01Z", "2020-01-01 00:00:02"],
        ["2020-01-01T02:00:01.999+02:00", "2019-12-31T19:30:02-0430"],
        ["2020-01-01 01:00:01+01", " 2020-01-01T00:00:02z "],
        pl.Series(["2020-01-01T00:00:01", "2020-01-01T00:00:02"]).cast(pl.Categorical),
        pl.Series([START * 1000 + 1999, START * 1000 + 2000]).cast(pl.Datetime("ms")),
        pl.Series([START * 1000 + 1999, START * 1000 + 2000]).cast(pl.Datetime("ms", "Asia/Tokyo")),
        pl.Series([(START + 1) * 10**9, (START + 2) * 10**9]).cast(pl.Datetime("ns")),
        pl.Series([START + 1, START + 2], dtype=pl.UInt32),
    ],
    ids=lambda value: str(value)[:40],
)
def test_every_form_is_seconds_utc(values):
    assert whole_seconds(column(values)).to_list() == [START + 1, START + 2]


@pytest.mark.parametrize(
    "values", [["2020-01-01", "2020-02-29"], [datetime.date(2020, 1, 1), datetime.date(2020, 2, 29)]]
)
def test_dates_begin_at_midnight_utc(values):
    assert whole_seconds(column(values)).to_list() == [START, START + 59 * 86_400]


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("meant", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("declared", ["s", "ms", "us", "ns"])
def test_another_unit_than_the_declared_one_is_named(declared, meant, as_text):
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[meant]
    numbers = pl.Series([(START + step) * scale for step in range(5)])
    times = column(numbers.cast(pl.String) if as_text else numbers, declared)
    if declared == meant:
        assert whole_seconds(times).to_list() == [START + step for step in range(5)]
        return
    with pytest.raises(InputError) as error:
        whole_seconds(times)
    assert f"expected times in the unit `{declared}`" in error.value.line()
    assert f"in the unit `{meant}`" in error.value.line()
    assert "= 2020-01-01" in error.value.line()
    assert error.value.remedy == f"set ingest.files.timestamp_unit: {meant}"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([START, None], "a value in every row.*row 2: None"),
        (
            [START, START * 1000],
            r"years 1970 to 2099.*1 affected.*row 2: 1577836800000.*timestamp_unit: s, ms, us or ns",
        ),
        ([START, -1], "years 1970 to 2099.*row 2: -1"),
        ([-START, -START - 1], "years 1970 to 2099.*2 affected"),
        (["2020-01-01", "1969-12-31"], "years 1970 to 2099.*row 2: 1969-12-31"),
        (["2020-01-01", "2100-01-01"], "years 1970 to 2099.*row 2: 2100-01-01"),
        (pl.Series([1, 2**63], dtype=pl.UInt64), "years 1970 to 2099"),
        (["1", "99999999999999999999"], "years 1970 to 2099"),
        ([START, 0, START], "years 1971 to 2099.*row 2: 0.*a missing one"),
        (["2020-01-01", "1970-01-01"], "years 1971 to 2099.*row 2: 1970-01-01"),
        ([float(START), float("nan")], "a number, date or ISO time.*row 2: nan"),
        ([float(START), float("inf")], "a number, date or ISO time.*row 2: inf"),
        (["2020-01-01", "2020/01/02"], "ISO time.*row 2: 2020/01/02.*write dates as 2024-12-31"),
        (["01/02/2020", "03/02/2020"], "ISO time.*2 affected.*write dates as"),
        (["31.12.2020"], "ISO time.*write dates as"),
        (["2020-02-30"], "ISO time.*row 1: 2020-02-30"),
        (["2020-01-01", "soon"], "ISO time.*row 2: soon"),
        ([f"{START}", "soon"], "ISO time.*row 2: soon"),
        (["Jan 5, 2020"], "ISO time"),
        ([20200101, 20200102], "the year 1970 for everything.*dates are written like 2024-12-31"),
        ([0, 0, 0], "one time for all of them.*3 affected"),
        (["2020-01-01"] * 3, "one time for all of them"),
        ([100_000, 100_001], "the year 1970 for everything.*timestamp_unit: position"),
        (list(range(100)), "the year 1970 for everything.*100 affected"),
        (["1970-01-01T00:00:01", "1970-01-01T00:00:02"], "the year 1970 for everything"),
        ([datetime.datetime(1970, 1, 1, 0, 0, 1)], "the year 1970 for everything"),
        ([True, False], "a number, date or ISO time in every row"),
        ([datetime.time(1), datetime.time(2)], "a number, date or ISO time in every row.*row 1: 01:00:00"),
        ([datetime.timedelta(1)], "a number, date or ISO time in every row"),
        ([b"1", b"2"], "a number, date or ISO time in every row"),
        ([[1], [2]], "a number, date or ISO time in every row"),
        ([{"a": 1}], "a number, date or ISO time in every row"),
        (pl.Series(["1.5"]).cast(pl.Decimal(10, 2)), "a number, date or ISO time in every row"),
        (pl.Series([None, None], dtype=pl.Null), "a value in every row"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_time_is_refused(values, says):
    with pytest.raises(InputError, match=says) as error:
        whole_seconds(column(values))
    assert "UNIT" not in error.value.line()


def test_a_few_small_numbers_are_an_example():
    assert whole_seconds(column([3, 1, 2])).to_list() == [3, 1, 2]
    assert whole_seconds(column([1])).to_list() == [1]


def test_numbers_that_only_order_events_become_ranks():
    assert positions(column([20.5, 10, 20.5, 30])).to_list() == [1, 0, 1, 2]
    assert positions(column(["7", "-1", "7"])).to_list() == [1, 0, 1]
    for bad in (["first", "second"], [1, None], [datetime.time(1)]):
        with pytest.raises(InputError, match="in every row"):
            positions(column(bad))


def ingest_source(source, path, **rest):
    settings = {"source": source, "path": str(path), "min_user_events": 1, "min_item_events": 1, **rest}
    return ingest(IngestParams.model_validate(settings))


def test_positions_are_no_clock(tmp_path):
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\na,y,20\na,x,3\nb,y,1\n")
    catalog = ingest_source("files", tmp_path, files={"timestamp_unit": "position"})
    assert catalog.report["timestamps_known"] == 0
    assert catalog.interactions.select("user_id", "item_id", "timestamp").rows() == [(0, 0, 0), (0, 1, 1), (1, 1, 0)]


def written_and_split(catalog, method="leave_one_out"):
    """Return the split of a catalogue that was written and read as the stages do."""
    footer = clock_footer(catalog.interactions, has_clock=bool(catalog.report["timestamps_known"]))
    INTERACTIONS.write(catalog.interactions, footer)
    interactions = INTERACTIONS.read()
    clock = has_clock(interactions, INTERACTIONS.metadata())
    params = SplitParams(method=method)
    return split_interactions(interactions, catalog.users.height, params, no_repeats=False, has_timestamps=clock)


def write_events(folder, events):
    text = "".join(f"{user},{item},{time}\n" for user, item, time in events)
    (folder / "interactions.csv").write_text("user_id,item_id,timestamp\n" + text)


def test_equal_positions_are_ties_for_ingest_and_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pairs = [(user, event) for user in range(40) for event in range(6)]
    write_events(tmp_path, [(f"u{user}", f"i{(user * 7 + event * event) % 11}", event // 3) for user, event in pairs])
    catalog = ingest_source("files", tmp_path, files={"timestamp_unit": "position"})
    assert catalog.report["timestamps_known"] == 0
    assert catalog.report["tie_rate"] == pytest.approx(4 / 6)
    assert catalog.interactions["timestamp"].to_list() == [0, 0, 0, 1, 1, 1] * 40
    assert catalog.report["tied_pairs_count"] > 0
    made = written_and_split(catalog)
    assert (made.report["timestamps_known"], made.report["tie_rate_test"], made.report["tie_rate_valid"]) == (0, 1, 1)
    assert made.targets["tied"].all()
    with pytest.raises(InputError, match="real timestamps for `global_time`"):
        written_and_split(catalog, "global_time")


def test_ranks_count_the_remaining_events_of_a_user(tmp_path):
    rows = [("a", "x", 5), ("a", "rare", 6), ("a", "y", 9), ("a", "z", 9), ("b", "x", 7), ("b", "y", 8), ("b", "z", 9)]
    write_events(tmp_path, rows)
    catalog = ingest_source("files", tmp_path, files={"timestamp_unit": "position"}, min_item_events=2)
    assert catalog.interactions["timestamp"].to_list() == [0, 1, 1, 0, 1, 2]
    assert catalog.report["tie_rate"] == pytest.approx(1 / 6)


@pytest.mark.parametrize("unit", ["s", "position"])
def test_counters_are_times_where_the_unit_says_so(tmp_path, monkeypatch, unit):
    monkeypatch.chdir(tmp_path)
    write_events(tmp_path, [(f"u{user}", f"i{(user + event) % 7}", event) for user in range(12) for event in range(6)])
    catalog = ingest_source("files", tmp_path, files={"timestamp_unit": unit}, sorted_sequences="accept")
    assert (catalog.interactions["timestamp"] == catalog.interactions["position"]).all()
    made = written_and_split(catalog)
    assert made.report["timestamps_known"] == catalog.report["timestamps_known"] == int(unit == "s")
    assert set(INTERACTIONS.metadata()) - {"schema", "version"} == ({"timestamps_known"} if unit == "s" else set())


def reviews_of(version, times):
    names = {"2014": ("reviewerID", "asin", "overall", "unixReviewTime")}
    names["2023"] = ("user_id", "parent_asin", "rating", "timestamp")
    return "\n".join(
        json.dumps(dict(zip(names[version], ("A", f"item {row}", 5.0, time), strict=True)))
        for row, time in enumerate(times)
    )


@pytest.mark.parametrize(
    ("version", "times", "says"),
    [
        ("2014", [START * 1000, START * 1000 + 5], "in the unit `ms`.*convert the times to `s`"),
        ("2023", [START, START + 5], "in the unit `s`.*convert the times to `ms`"),
        ("2014", [0, 0, 0], "one time for all of them"),
        ("2014", [1_500_000, 1_500_001], "the year 1970 for everything"),
        ("2014", [-5, -6], "few broken lines.*the time -5"),
    ],
)
def test_review_times_of_another_unit_or_none_are_refused(tmp_path, version, times, says):
    (tmp_path / "reviews.json").write_text(reviews_of(version, times))
    with pytest.raises(InputError, match=says):
        ingest_source("amazon", tmp_path)


@pytest.mark.parametrize("stray", [0, -5, 2 * START * 1000, 10**20, 1e400, True])
def test_a_review_whose_time_cannot_be_is_a_bad_line(tmp_path, stray):
    (tmp_path / "reviews.json").write_text(reviews_of("2014", [START, stray, START + 1, START + 2]))
    catalog = ingest_source("amazon", tmp_path)
    assert catalog.report["reviews_bad_lines"] == 1
    assert catalog.interactions["timestamp"].to_list() == [START, START + 1, START + 2]


def test_ratings_in_milliseconds_are_refused(tmp_path):
    (tmp_path / "ratings.csv").write_text(f"userId,movieId,rating,timestamp\n1,10,4.0,{START}000\n1,9,4.0,{START}001\n")
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n9,Heat (1995),Crime\n10,Up (2009),Crime\n")
    with pytest.raises(InputError, match=r"in the unit `ms`.*source `files` with ingest\.files\.timestamp_unit: ms"):
        ingest_source("movielens", tmp_path)
