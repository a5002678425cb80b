"""Published figures: the file's form, and what stands beside what."""

import json
from pathlib import Path

import pytest
from experiments.tables import results as tables

from experiments import published
from sidflow.core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FILE = """
sources: {paper: {title: "Paper, Table 1", url: "https://arxiv.org/abs/1"}}
protocols: {leave_one_out: "the last item, all ranked", minionerec: "samples by time, 8:1:1"}
caveats: {once: one seed}
figures:
  - {preset: tiny, model: SASRec, metrics: {ndcg_at_10: 0.05, recall_at_10: 0.1}, source: paper, beside: [sasrec]}
  - {preset: tiny, model: LiGR, metrics: {ndcg_at_10: 0.04}, source: paper, caveat: once, beside: [esasrec, sasrec]}
  - {preset: other, model: SASRec, metrics: {ndcg_at_10: 0.05}, source: paper, beside: [sasrec]}
  - {preset: tiny, model: GRU4Rec, metrics: {ndcg_at_10: 0.05}, source: paper, beside: [gru4rec]}
  - {preset: tiny, model: MiniOneRec, metrics: {ndcg_at_10: 0.1}, source: paper, protocol: minionerec, beside: [sasrec]}
"""
MEASURED = {"tiny": {"sasrec": {"metrics": {"ndcg_at_10": {"mean": 0.06, "low": 0.05, "high": 0.07}}}}}


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / published.PUBLISHED_PATH
    path.parent.mkdir()
    path.write_text(FILE)
    return path


def test_a_figure_stands_beside_the_first_of_ours_that_is_measured_in_its_metric(file):
    plain, recall, other, elsewhere, unmeasured = published.results_beside_figures(MEASURED)
    assert (plain.figure.model, plain.metric, plain.published) == ("SASRec", "ndcg_at_10", 0.05)
    assert plain.ours == ("sasrec", 0.06, 0.05, 0.07)
    assert plain.source.url == "https://arxiv.org/abs/1"
    assert (other.figure.model, plain.caveat, other.caveat) == ("LiGR", "", "one seed")
    assert other.ours is not None
    assert other.ours.recommender == "sasrec"
    assert (recall.metric, recall.ours, elsewhere.figure.preset, elsewhere.ours) == (
        "recall_at_10",
        None,
        "other",
        None,
    )
    assert (unmeasured.figure.model, unmeasured.ours) == ("GRU4Rec", None)


def test_figures_of_two_protocols_are_never_together(file):
    assert {row.protocol for row in published.results_beside_figures(MEASURED)} == {"the last item, all ranked"}
    [row] = published.results_beside_figures(MEASURED, "minionerec")
    assert (row.figure.model, row.protocol) == ("MiniOneRec", "samples by time, 8:1:1")


def test_a_figure_that_is_not_run_has_a_row_without_ours(file):
    rows = [line.split(" | ") for line in tables.published_table().splitlines()]
    assert rows[0][4:7] == ["ours", "ours is", "protocol"]
    assert rows[2][:7] == ["| tiny", "ndcg_at_10", "SASRec", "0.0500", "", "", "the last item, all ranked"]
    assert len(rows) == 7
    folder = Path("experiments/results/minionerec")  # of that protocol alone
    folder.mkdir(parents=True)
    (folder / "tiny.json").write_text(json.dumps({"preset": "tiny", "recommenders": MEASURED["tiny"]}))
    assert [line.split(" | ") for line in tables.published_table().splitlines()] == rows
    row = tables.published_minionerec_table().splitlines()[2]
    assert row.startswith("| tiny | ndcg_at_10 | MiniOneRec | 0.1000 | sasrec 0.0600 [0.0500, 0.0700] | -40.0% |")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("source: paper, beside: [gru4rec]", "source: papre, beside: [gru4rec]", "'papre'"),
        ("caveat: once", "caveat: twice", "'twice'"),
        ("protocol: minionerec", "protocol: minione", "'minione'"),
        ("ndcg_at_10: 0.04", "ndcg_at_10: 4.0", "LiGR from 0 to 1"),
        ("https://arxiv.org/abs/1", "a book", "sources.paper.url"),
        ("model: LiGR", "model: LiGR, note: x", "`note`"),
    ],
)
def test_a_slip_in_the_file_is_one_line(file, old, new, told):
    assert old in FILE
    file.write_text(FILE.replace(old, new))
    with pytest.raises(InputError, match=told):
        list(published.results_beside_figures(MEASURED))


def test_without_the_file_nothing_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not list(published.results_beside_figures(MEASURED))


def test_every_committed_figure_names_a_preset_and_recommenders_that_exist():
    content = published.read_published(ROOT / published.PUBLISHED_PATH)
    known = {path.stem for path in (ROOT / "presets").glob("*.yaml")}
    assert {figure.preset for figure in content.figures} <= known
    ours = {"sasrec", "esasrec", "gru4rec", "bert4rec", "mme_sid", "tiger", "lc_rec"}
    assert {name for figure in content.figures for name in figure.beside} <= ours
    assert content.protocols.keys() == {figure.protocol for figure in content.figures}
    assert content.caveats.keys() == {figure.caveat for figure in content.figures if figure.caveat}
    claimed = {claim.source for _, claim in content.claims or ()}
    assert content.sources.keys() == {figure.source for figure in content.figures} | claimed


def test_figures_of_generated_ids_stand_beside_generated_ids():
    """TIGER, both replications and LC-Rec's rerun, of all three data sets; none beside another kind of recommender."""
    figures = [
        figure
        for figure in published.read_published(ROOT / published.PUBLISHED_PATH).figures
        if figure.protocol == "leave_one_out" and ("TIGER" in figure.model or "LC-Rec" in figure.model)
    ]
    models = {"TIGER", "TIGER in genrec", "TIGER in Cornac", "LC-Rec in genrec (Qwen3-1.7B)"}
    presets = {"amazon-beauty-text-generative", "amazon-toys-generative", "amazon-sports-generative"}
    assert {figure.preset for figure in figures} == presets
    for preset in presets:
        assert models <= {figure.model for figure in figures if figure.preset == preset}
    assert {name for figure in figures for name in figure.beside} == {"tiger", "lc_rec"}
    assert all({"recall_at_10", "ndcg_at_10"} <= figure.metrics.keys() for figure in figures)
