"""Two revisions side by side: where their results come from, what is judged, what is refused."""

import json
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.unit.cli.revision_cases import git, lock, somebody
from typer.testing import CliRunner

from sidflow.artifacts.catalog import IMAGES
from sidflow.artifacts.evaluation import EXPECTED, PER_QUERY
from sidflow.cli import compare, comparison_table, revisions
from sidflow.cli.app import app
from sidflow.cli.compare import compare_recommenders, compare_revisions
from sidflow.cli.dvc import LOCK_PATH, dvc_environment, dvc_executable
from sidflow.cli.revisions import read_revision, read_workspace
from sidflow.cli.slices import slices_of_tests
from sidflow.core.errors import InputError
from sidflow.evaluation.compare import build_leaderboard
from sidflow.evaluation.params import CompareParams
from sidflow.sequences.histories import load_histories

runner = CliRunner()
USERS, EACH = 60, 2
SETTINGS = CompareParams(draws=400)
PARAMS = "preset: embedded\nrecommenders: [sasrec, markov]\ncompare: {draws: 400}\n"
PIPELINE = """\
stages:
  evaluate:
    foreach: ${recommenders}
    do:
      cmd: test -d artifacts/evaluations/${item}
      outs:
        - artifacts/evaluations/${item}: {persist: true}
"""


def _table(seed: int, most: int = 40, users: int = USERS) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    queries = users * EACH * 2
    ranks = generator.integers(1, most, queries)
    return pl.DataFrame(
        {
            "query_id": range(queries),
            "user_id": np.arange(queries) // (EACH * 2),
            "part": ["valid", "test"] * (users * EACH),
            "rank": ranks,
            "candidates": [100] * queries,
            "sampled_rank": ranks,
            "tied": [False] * queries,
            "history_length": [3, 4] * (users * EACH),
            "target_count": [5] * queries,
        }
    ).with_columns(pl.lit(None, dtype=pl.Float32).alias(name) for name in EXPECTED)


def _better(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns((pl.col("rank") + 1) // 2)


def _lock(cache: Path, names: tuple[str, ...] = ("sasrec", "markov")) -> None:
    lock({f"evaluate@{name}": PER_QUERY.at(model=name).parent for name in names}, cache)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A commit, tagged `before`, of which sasrec is better in the workspace and markov the same."""
    monkeypatch.chdir(tmp_path)
    somebody(monkeypatch)
    monkeypatch.setattr("sidflow.cli.revisions.dvc_cache_folder", lambda: tmp_path / "cache")
    Path("params.yaml").write_text(PARAMS)
    Path("dvc.yaml").write_text(PIPELINE)
    Path(".gitignore").write_text("/artifacts\n/cache\n")
    for seed, name in enumerate(("sasrec", "markov")):
        PER_QUERY.write(_table(seed), model=name)
    _lock(tmp_path / "cache")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "before")
    git("tag", "before")
    PER_QUERY.write(_better(_table(0)), model="sasrec")
    return tmp_path


def _rows(found: compare.RevisionComparison) -> dict[str, compare.RecommenderChange]:
    return {row.recommender: row for row in found.rows}


def test_what_got_better_is_told_from_what_is_the_same(project):
    found = compare_revisions(read_revision("before"), read_workspace(), SETTINGS)
    rows = _rows(found)
    assert (found.queries, found.users) == (USERS * EACH, USERS)
    assert rows["sasrec"].outcome == "better"
    assert rows["sasrec"].low > 0
    assert rows["markov"] == compare.RecommenderChange(
        "markov", rows["markov"].after, rows["markov"].after, 0, 0, 0, 0, 0, None, "unchanged"
    )
    back = compare_revisions(read_workspace(), read_revision("before"), SETTINGS)
    assert _rows(back)["sasrec"].outcome == "worse"
    assert _rows(back)["sasrec"].difference == pytest.approx(-rows["sasrec"].difference)


def test_the_numbers_are_those_of_a_leaderboard_with_both_in_it(project):
    before, after = _table(0), _better(_table(0))
    row = _rows(compare_revisions(read_revision("before"), read_workspace(), SETTINGS))["sasrec"]
    board = build_leaderboard({"before": before, "mme_sid": after}, SETTINGS)
    known = board["differences"]["mme_sid"]["ndcg_at_10"]
    for name in ("difference", "low", "high", "detectable", "p_corrected"):  # one test: nothing to correct
        assert getattr(row, name) == pytest.approx(known[name]), name
    assert row.before == pytest.approx(board["recommenders"]["before"]["metrics"]["ndcg_at_10"]["mean"])


def test_p_is_corrected_for_the_number_of_recommenders_that_changed(project):
    alone = _rows(compare_revisions(read_revision("before"), read_workspace(), SETTINGS))["sasrec"]
    worse = _table(1).with_columns(rank=pl.col("rank") + pl.Series(np.random.default_rng(3).integers(0, 2, USERS * 4)))
    PER_QUERY.write(worse, model="markov")
    rows = _rows(compare_revisions(read_revision("before"), read_workspace(), SETTINGS))
    assert rows["sasrec"].p_corrected == pytest.approx(2 * alone.p_corrected)
    assert rows["markov"].p_corrected >= rows["sasrec"].p_corrected


def test_a_lower_log_rank_is_a_better_one_and_stands_first(project):
    found = compare_revisions(read_revision("before"), read_workspace(), SETTINGS, "mean_log2_rank")
    row = _rows(found)["sasrec"]
    ranks = _table(0).filter(pl.col("part") == "test")["rank"].to_numpy()
    assert row.difference == pytest.approx(np.mean(np.log2((ranks + 1) // 2) - np.log2(ranks)))
    assert (row.high < 0, row.outcome) == (True, "better")
    assert [row.recommender for row in found.rows] == ["sasrec", "markov"]
    back = compare_revisions(read_workspace(), read_revision("before"), SETTINGS, "mean_log2_rank")
    assert _rows(back)["sasrec"].outcome == "worse"


def test_users_are_resampled_never_queries(project):
    """Every query four times over is no more evidence."""
    once = {"sasrec": _table(0, users=30).filter(pl.col("part") == "test")}
    more = {"sasrec": once["sasrec"].with_columns(rank=pl.Series(np.random.default_rng(9).integers(1, 40, 60)))}

    def half_width(copies: int) -> float:
        sides = [
            revisions.Revision(name, "", "embedded", {k: pl.concat([v] * copies) for k, v in tests.items()})
            for name, tests in (("a", once), ("b", more))
        ]
        row = compare_revisions(*sides, SETTINGS).rows[0]
        return row.high - row.low

    assert half_width(4) == pytest.approx(half_width(1))


def test_the_workspace_is_left_alone(project):
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = runner.invoke(app, ["compare", "before"])
    assert result.exit_code == 0, result.output
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert "before (" in result.stdout
    assert "workspace" in result.stdout
    assert "sasrec" in next(line for line in result.stdout.splitlines() if line.endswith("better"))
    assert "  < 0.001  better" in result.stdout


def test_a_refit_in_one_of_the_two_is_said(project):
    PER_QUERY.write(_better(_table(0)), {"refit": True}, model="sasrec")
    found = compare_revisions(read_revision("before"), read_workspace(), SETTINGS)
    assert found.refitted == {"sasrec": "workspace"}
    assert "sasrec: refitted on train + validation in workspace alone." in comparison_table.to_text(found)
    back = compare_revisions(read_workspace(), read_revision("before"), SETTINGS)
    assert back.refitted == {"sasrec": "workspace"}
    assert not compare_revisions(read_workspace(), read_workspace(), SETTINGS).refitted


def test_a_pair_of_which_one_was_refitted_is_refused(project):
    PER_QUERY.write(_better(_table(0)), {"refit": True}, model="sasrec")
    result = runner.invoke(app, ["compare", "--pair", "sasrec", "markov"])
    assert result.exit_code == 2
    assert "found refitted: sasrec; not: markov" in " ".join(result.stderr.split())


def test_the_better_stands_first_and_who_is_on_one_side_only_has_no_difference(project):
    PER_QUERY.write(_table(3, most=4), model="gru4rec")
    Path("params.yaml").write_text(PARAMS.replace("[sasrec, markov]", "[sasrec, gru4rec]"))
    found = compare_revisions(read_revision("before"), read_workspace(), SETTINGS)
    assert [row.recommender for row in found.rows] == ["gru4rec", "sasrec", "markov"]
    rows = _rows(found)
    assert (rows["gru4rec"].before, rows["gru4rec"].difference, rows["gru4rec"].outcome) == (None, None, "")
    assert (rows["markov"].after, rows["markov"].difference) == (None, None)
    assert "  -  " in comparison_table.to_text(found)


def test_json_and_another_metric(project):
    result = runner.invoke(app, ["compare", "before", "--metric", "mrr_at_1", "--json"])
    content = json.loads(result.stdout)
    assert content["metric"] == "mrr_at_1"
    ranks = _table(0).filter(pl.col("part") == "test")["rank"]
    assert {row["recommender"]: row["before"] for row in content["rows"]}["sasrec"] == pytest.approx(
        (ranks == 1).mean()
    )


def test_two_commits_need_no_workspace(project):
    _lock(project / "cache")
    git("commit", "-qam", "after")
    for name in ("sasrec", "markov"):
        PER_QUERY.at(model=name).unlink()
    result = runner.invoke(app, ["compare", "before", "HEAD", "--json"])
    assert [row["outcome"] for row in json.loads(result.stdout)["rows"]] == ["better", "unchanged"]
    missing = runner.invoke(app, ["compare", "before"])
    assert (missing.exit_code, len(missing.stderr.splitlines())) == (2, 1)
    assert "dvc repro" in missing.stderr


def test_what_the_cache_lacks_is_one_line(project):
    for path in (project / "cache").rglob("*"):
        if path.is_file() and not path.name.endswith(".dir"):
            path.unlink()
    result = runner.invoke(app, ["compare", "before"])
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert result.stderr.startswith("DVC's cache: expected the results per query of before; found")
    assert "(2 affected), for example 'sasrec'" in result.stderr
    assert "dvc fetch" in result.stderr


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["nowhere"], "REV: expected a commit, branch, tag or experiment; found 'nowhere'."),
        (["before", "--metric", "hits"], "--metric: expected one of the names recall_at_1, "),
        (["bare"], "dvc.lock of bare: expected a committed file; found none."),
        (["unrun"], "dvc.lock of unrun: expected evaluated recommenders; found none."),
    ],
)
def test_what_cannot_be_compared_is_one_line(project, typed, said):
    LOCK_PATH.write_text("stages: {}\n")
    git("commit", "-qam", "unrun")
    git("tag", "unrun")
    git("rm", "-q", "dvc.lock")
    git("commit", "-qm", "bare")
    git("tag", "bare")
    result = runner.invoke(app, ["compare", *typed])
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert result.stderr.startswith(said)


def test_other_queries_are_refused(project):
    for name in ("sasrec", "markov"):
        PER_QUERY.write(_table(0, users=USERS + 1), model=name)
    with pytest.raises(InputError, match="of one preset"):
        compare_revisions(read_revision("before"), read_workspace(), SETTINGS)


def _pair(*typed: str) -> dict:
    result = runner.invoke(app, ["compare", *typed, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_two_recommenders_against_one_another_are_as_in_a_leaderboard(project):
    board = build_leaderboard({"markov": _table(1), "mme_sid": _better(_table(0))}, SETTINGS)
    known = board["differences"]["mme_sid"]["ndcg_at_10"]
    found = _pair("--pair", "sasrec", "markov")
    (row,) = found["rows"]
    assert (found["one"], found["other"], found["users"], found["queries"]) == ("sasrec", "markov", USERS, USERS * EACH)
    for name in ("difference", "low", "high", "relative", "detectable", "p_corrected", "verdict", "claim"):
        expected = known[name]
        assert row[name] == (expected if isinstance(expected, str) else pytest.approx(expected)), name
    assert row["verdict"] == "shown"
    (back,) = _pair("--pair", "markov", "sasrec")["rows"]
    assert back["difference"] == pytest.approx(-row["difference"])
    assert back["verdict"] == "behind"


def test_a_pair_of_a_revision_in_several_metrics_is_corrected_for_them(project):
    typed = ["before", "--pair", "sasrec", "markov"]
    names = ["ndcg_at_10", "mean_log2_rank", "recall_at_20"]
    alone = {name: _pair(*typed, "--metric", name)["rows"][0] for name in names}
    together = _pair(*typed, *(part for name in names for part in ("--metric", name)))["rows"]
    assert [row["metric"] for row in together] == names
    least = min(names, key=lambda name: alone[name]["p_corrected"])
    by_name = {row["metric"]: row for row in together}
    assert by_name[least]["p_corrected"] == pytest.approx(min(1, 3 * alone[least]["p_corrected"]))
    ranks = [_table(seed).filter(pl.col("part") == "test")["rank"].to_numpy() for seed in (0, 1)]
    difference = np.log2(ranks[0]).mean() - np.log2(ranks[1]).mean()
    assert by_name["mean_log2_rank"]["difference"] == pytest.approx(difference)
    assert by_name["mean_log2_rank"]["claim"] is None


def test_a_pair_whose_first_has_the_lower_log_rank_is_shown(project):
    result = runner.invoke(app, ["compare", "--pair", "sasrec", "markov", "--metric", "mean_log2_rank"])
    line = next(line for line in result.stdout.splitlines() if line.startswith("mean_log2_rank"))
    assert line.endswith("shown")
    assert " -" in line


def test_a_pair_has_lines_that_explain_verdicts_and_claims(project):
    lines = runner.invoke(app, ["compare", "--pair", "sasrec", "markov"]).stdout.splitlines()
    assert lines[-3].endswith(
        "p: corrected (Holm) for the number of rows; the leaderboard corrects for all its recommenders."
    )
    assert lines[-2].startswith("shown: sasrec is better; behind: markov is, by the same rule; contradicted: neither, ")
    assert lines[-1].startswith("claim: reached where the interval lies at +4% or above, ")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["--pair", "sasrec", "nobody"],
            "params.yaml:recommenders: expected one of the names sasrec, markov; found 'nobody'.",
        ),
        (["before", "--pair", "sasrec", "nobody"], "--pair: expected one of the names sasrec, markov; found 'nobody'."),
        (["--pair", "sasrec", "sasrec"], "--pair: expected two recommenders; found 'sasrec' twice."),
        (["--pair", "sasrec", "markov", "--metric", "hits"], "--metric: expected one of the names recall_at_1, "),
        (["before", "HEAD", "--pair", "sasrec", "markov"], "--pair: expected one revision or none; found 'HEAD'."),
        (["before", "--metric", "mrr_at_1", "--metric", "mrr_at_5"], "--metric: expected one, or --pair; found 2."),
        ([], "sidflow compare: expected REV or --pair A B; found neither."),
        ([""], "REV: expected a commit, branch, tag or experiment; found ''."),
        (["before", ""], "REV: expected a commit, branch, tag or experiment; found ''."),
    ],
)
def test_what_is_no_pair_is_one_line(project, typed, said):
    result = runner.invoke(app, ["compare", *typed])
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert result.stderr.startswith(said)


def test_a_pair_does_not_wait_for_a_recommender_that_was_not_evaluated(project):
    Path("params.yaml").write_text(PARAMS.replace("[sasrec,", "[popularity, sasrec,"))
    assert _pair("--pair", "sasrec", "markov")["rows"]
    result = runner.invoke(app, ["compare", "before"])
    assert result.exit_code == 2
    assert "evaluations/popularity" in result.stderr


@pytest.mark.pipeline
def test_dvcs_own_lock_cache_and_experiments(project, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(project)
    program = str(dvc_executable())
    environment = dvc_environment(
        {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        | {"GIT_CONFIG_GLOBAL": "/dev/null", "DVC_SITE_CACHE_DIR": str(project.parent / "site")}
    )

    def do(*command: str) -> None:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    LOCK_PATH.unlink()
    do(program, "init", "-q")
    do(program, "repro", "-q")
    do("git", "add", ".")
    do("git", "commit", "-qm", "run")
    PER_QUERY.write(_table(1), model="sasrec")
    do(program, "commit", "-q", "-f")
    do(program, "exp", "save", "-n", "tried")
    PER_QUERY.write(_better(_table(0)), model="sasrec")
    found = compare_revisions(read_revision("tried"), read_revision("HEAD"), SETTINGS)
    means = {row.recommender: row.before for row in found.rows}
    assert means["sasrec"] == means["markov"]  # seed 1 is markov's
    assert _rows(found)["sasrec"].after != means["sasrec"]


def test_a_pair_is_compared_on_slices_each_with_its_own_users(project):
    table = read_workspace()
    users = table.tests["sasrec"]["user_id"].to_numpy()
    slices = {"tail": users < 20, "cold": np.zeros(len(users), bool)}
    found = compare_recommenders(table, ("sasrec", "markov"), (), SETTINGS, slices)
    assert [(row.slice, row.queries) for row in found.rows] == [("all", USERS * EACH), ("tail", 20 * EACH)]
    assert found.empty_slices == ("cold",)
    tests = {name: one.filter(pl.col("user_id") < 20) for name, one in table.tests.items()}
    alone = compare_recommenders(table._replace(tests=tests), ("sasrec", "markov"), (), SETTINGS).rows[0]
    for name in ("one", "other", "difference", "low", "high", "detectable"):
        assert getattr(found.rows[1], name) == pytest.approx(getattr(alone, name)), name
    assert max(row.p_corrected for row in found.rows) >= alone.p_corrected
    text = comparison_table.to_text(found)
    assert f"\nndcg_at_10, tail ({20 * EACH})  " in text
    assert text.endswith("cold: no test query.")


def test_no_gain_is_claimed_over_what_has_nothing(project):
    tables = {"sasrec": _table(0), "markov": _table(1).with_columns(rank=pl.lit(99, dtype=pl.Int64))}
    state = read_workspace()._replace(tests={k: v.filter(pl.col("part") == "test") for k, v in tables.items()})
    (row,) = compare_recommenders(state, ("sasrec", "markov"), (), SETTINGS).rows
    assert (row.other, row.relative, row.claim, row.verdict) == (0, None, None, "shown")


@pytest.mark.parametrize("arguments", [["before", "--slice", "tail"], ["before", "--pair", "sasrec", "markov"]])
def test_slices_are_of_a_pair_in_the_workspace(project, arguments):
    done = runner.invoke(app, ["compare", *arguments, *(["--slice", "tail"] if "--slice" not in arguments else [])])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("--slice: expected --pair of the files in artifacts/; found ")


def test_slices_are_cut_as_evaluate_cuts_them(catalogue):
    IMAGES.write(IMAGES.empty())
    masks = slices_of_tests(["cold", "without_picture", "without_text"])
    histories = load_histories()
    trained = histories.training_counts(5)[histories.targets[~histories.query_valid]]
    assert masks["cold"].tolist() == (trained == 0).tolist()
    assert 0 < masks["cold"].sum() < 3
    assert masks["without_picture"].tolist() == [True] * 3
    assert masks["without_text"].tolist() == [False] * 3
    with pytest.raises(InputError, match=r"--slice: expected one of the names cold, .*; found `cild`"):
        slices_of_tests(["cild"])


def test_ties_of_shared_ids_are_read_with_a_revision(project):
    """All six items of an ID tie with the target, so that its rank is the mean of six."""
    shared = {"sharing": 5, "id_rank": 1, "sampled_sharing": 5}
    PER_QUERY.write(
        _table(0).with_columns(rank=6, sampled_rank=6, **{name: pl.lit(one) for name, one in shared.items()}),
        model="sasrec",
    )
    for metric in ("ndcg_at_10", "sampled_ndcg_at_10"):
        found = _rows(compare_revisions(read_revision("before"), read_workspace(), SETTINGS, metric))["sasrec"]
        assert found.after == pytest.approx(np.mean([1 / np.log2(rank + 1) for rank in range(1, 7)]))


def test_figures_that_need_every_rank_are_not_compared_where_a_beam_ranks(project):
    PER_QUERY.write(_better(_table(0)).with_columns(listed=pl.lit(True)), model="sasrec")
    found = compare_revisions(read_revision("before"), read_workspace(), SETTINGS, "mean_log2_rank")
    rows = _rows(found)
    assert rows["sasrec"].before is not None and rows["sasrec"].after is rows["sasrec"].difference is None
    assert rows["markov"].outcome == "unchanged" and found.rows[-1].recommender == "sasrec"
    assert _rows(compare_revisions(read_revision("before"), read_workspace(), SETTINGS))["sasrec"].outcome == "better"
    with pytest.raises(InputError, match="'mean_log2_rank', which needs every rank; ranked by beam"):
        compare.compare_recommenders(read_workspace(), ("sasrec", "markov"), ["mean_log2_rank"], SETTINGS)
    with pytest.raises(InputError, match="found 'loss'"):
        compare_revisions(read_revision("before"), read_workspace(), SETTINGS, "loss")
