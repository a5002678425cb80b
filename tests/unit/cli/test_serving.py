"""`recommend` and `show item`, from the API and as commands, on a catalogue small enough to know the answers."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from sidflow import Project
from sidflow.artifacts.evaluation import TARGET_RANKS, TOP
from sidflow.artifacts.recommenders import COLD_ROWS, SUMMARY, WEIGHTS
from sidflow.cli import serving
from sidflow.cli.app import app
from sidflow.cli.serving import item_as_json, item_as_text, recommendation_as_text
from sidflow.core import params as core_params
from sidflow.core.errors import InputError
from sidflow.core.params import load_params
from sidflow.serving import history_encoders, recommendations
from sidflow.serving.history_encoders import HistoryFactors
from sidflow.serving.items import Item, SemanticId, SharedPrefix, _shared_prefixes
from sidflow.serving.recommendations import NamedItem, Recommendation

runner = CliRunner()


def test_a_user_gets_the_evaluated_list_of_the_test_query(catalogue) -> None:
    project = Project.load()
    recommendation = project.recommend("u-1", k=2, recommender="sasrec")
    assert [item.item_key for item in recommendation.history] == ["k-0", "k-1", "k-2"]
    assert [(item.item_key, item.score) for item in recommendation.items] == [("k-2", 3.0), ("k-3", 2.0)]
    assert recommendation.target is not None
    assert recommendation.target.title == "Gold lamp"
    assert recommendation.target_rank is None  # rank 3 of 2 candidates: the target is in the history
    assert project.recommend("u-1", k=2, recommender="popularity").target_rank == 2


def test_empty_positions_are_left_out_and_too_long_a_list_is_an_error(catalogue) -> None:
    assert len(Project.load().recommend("u-0", k=4).items) == 3
    assert len(Project.load().recommend("u-0", k=5).items) == 3  # there are no further candidates
    ranks = TARGET_RANKS.read(model="popularity").with_columns(candidates=pl.lit(5, dtype=pl.Int32))
    TARGET_RANKS.write(ranks, model="popularity")
    with pytest.raises(InputError, match=r"rank\.top"):
        Project.load().recommend("u-0", k=5, recommender="popularity")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--user", "u-11"], "did you mean u-1"),
        (["--user", "u-1", "--history", "k-1"], "either a user or a history"),
        ([], "either a user or a history"),
        (["--user", "u-1", "--recommender", "none"], "popularity, sasrec"),
        (["--history", "k-5", "--recommender", "sasrec"], "items of the core"),
        (["--history", "k-0", "--recommender", "popularity"], "cannot"),
        (["--history", "gold"], "k-3 (Gold lamp)"),
        (["--user", "u-1", "--include-cold"], "over the core"),
    ],
)
def test_invalid_questions_end_in_one_line(catalogue, arguments, message) -> None:
    result = runner.invoke(app, ["recommend", *arguments])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a user or a history; found neither"),
        ({"user": "u-1", "history": ["k-1"]}, "either a user or a history; found both"),
        ({"user": "u-1", "include_cold": True}, "over the core"),
        ({"history": []}, "history: expected item keys, at least one; found none"),
        ({"user": "u-1", "k": 0}, "k: expected an integer >= 1; found 0"),
    ],
)
def test_invalid_arguments_of_the_api(catalogue, arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        Project.load().recommend(**arguments)


def test_only_a_fine_tuned_recommender_can_be_merged(catalogue, tmp_path) -> None:
    result = runner.invoke(app, ["merge", "--recommender", "popularity", "--out", str(tmp_path / "merged")])
    assert result.exit_code == 2
    assert result.stderr.startswith("--recommender: expected one of `finetune` in params.yaml: ")
    assert "found popularity" in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "merged").exists()


def test_where_nothing_is_fine_tuned_the_remedy_of_merge_is_to_train_it(catalogue, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(serving, "load_params", lambda: {"finetune": {}})
    result = runner.invoke(app, ["merge", "--out", str(tmp_path / "merged")])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert result.stderr.endswith("Remedy: `sidflow recommenders NAME ... mme_sid`, then `dvc repro`\n")


def test_a_runtime_setting_with_a_typo_is_an_error(catalogue, monkeypatch) -> None:
    monkeypatch.setenv("SIDFLOW_DEVICE", "gpu")
    result = runner.invoke(app, ["recommend", "--user", "u-1"])
    assert result.exit_code == 2
    assert result.stderr.startswith("SIDFLOW_DEVICE: expected one of auto, cpu, cuda; found 'gpu'")


def factors(scores, candidates) -> HistoryFactors:
    """Return factors of one history that give these scores, in place of a trained model."""
    arrays = {
        "query_states": np.ones((1, 1), dtype=np.float32),
        "item_matrix": np.array(scores, dtype=np.float32)[:, None],
    }
    return HistoryFactors(arrays, np.array(candidates, dtype=bool), unscored=len(candidates) - sum(candidates))


@pytest.fixture
def encoder(monkeypatch):
    """Replace trained models by a function that the test sets; count how often one is loaded."""
    loaded = []

    def replace_by(encode):
        def load(recommender):
            loaded.append(recommender)
            return encode

        monkeypatch.setattr(recommendations, "can_encode", lambda _: True)
        monkeypatch.setattr(recommendations, "load_history_encoder", load)
        return loaded

    return replace_by


def test_a_new_history_is_encoded_by_a_model_that_is_loaded_once(catalogue, encoder) -> None:
    def encode(history, include_cold, k):
        assert (history, include_cold) == ([2, 0], False)
        assert k in (2, 6)  # at most the items of the catalogue
        return factors([0, 1, 2, 1, 0], [1] * 5)

    loaded, project = encoder(encode), Project.load()
    recommendation = project.recommend(history=["k-2", "k-0"], k=2, recommender="sasrec")
    assert [(item.item_key, item.score) for item in recommendation.items] == [("k-1", 1.0), ("k-3", 1.0)]
    everything = project.recommend(history=["k-2", "k-0"], k=9, recommender="sasrec").items
    assert project.recommend(history=["k-2", "k-0"], k=10**12, recommender="sasrec").items == everything
    assert len(everything) == 3  # the core without the history
    assert loaded == ["sasrec"]


def test_spaces_around_keys_of_a_history_do_not_count(catalogue, encoder) -> None:
    encoder(lambda history, *_: factors([0, 1, 2, 1, 0], [1] * 5) if history == [2, 0] else None)
    assert runner.invoke(app, ["recommend", "--history", "k-2, k-0", "--recommender", "sasrec"]).exit_code == 0


@pytest.mark.parametrize("has_row", [True, False])
def test_cold_items_are_marked_and_those_without_a_row_are_counted(catalogue, encoder, has_row) -> None:
    encoder(lambda *_: factors([0, 1, 2, 1, 0, 5], [1] * 5 + [has_row]))
    COLD_ROWS.write({"values": np.ones((1, 2), np.float32), "present": np.ones(1, bool)}, {}, model="sasrec")
    arguments = ["recommend", "--history", "k-2", "--recommender", "sasrec", "-k", "2", "--include-cold"]
    text = runner.invoke(app, arguments).stdout
    content = json.loads(runner.invoke(app, [*arguments, "--json"]).stdout)
    marks = [(item["item_key"], item["cold"]) for item in content["items"]]
    if has_row:
        assert marks == [("k-5", True), ("k-1", False)]
        assert "1. Odd thing  [k-5]  5  (cold: outside the core)\n" in text
        assert "Green lamp  [k-1]  1\n" in text
        assert content["unscored"] == 0
        assert "Not scored" not in text
    else:
        assert marks == [("k-1", False), ("k-3", False)]
        assert "cold:" not in text
        assert content["unscored"] == 1
        assert "Not scored, because they have no modality: 1 item outside the core\n" in text


def test_a_recommender_without_cold_rows_names_one_that_has_some(catalogue, monkeypatch) -> None:
    monkeypatch.setattr(recommendations, "can_encode", lambda _: True)
    arguments = ["recommend", "--history", "k-2", "--recommender", "sasrec", "--include-cold"]
    assert "rows of cold items from sasrec; found none. Remedy: `dvc repro fine" in runner.invoke(app, arguments).stderr
    COLD_ROWS.write({"values": np.ones((1, 2), np.float32), "present": np.ones(1, bool)}, {}, model="popularity")
    assert "take recommender popularity" in runner.invoke(app, arguments).stderr


def test_a_history_with_cold_items_names_the_recommenders_that_read_them(catalogue, monkeypatch) -> None:
    monkeypatch.setattr(recommendations, "can_encode", lambda _: True)
    arguments = ["recommend", "--history", "k-5", "--recommender", "sasrec"]
    said = runner.invoke(app, arguments).stderr
    assert said.endswith("found items outside of it (1 affected), for example 'k-5'. Remedy: leave them out\n")
    monkeypatch.setattr(recommendations, "reads_cold_items", lambda name: name == "popularity")
    assert runner.invoke(app, arguments).stderr.endswith("Remedy: leave them out or take recommender popularity\n")


def test_a_blend_with_a_generator_is_not_served(catalogue, monkeypatch) -> None:
    """Its weight was chosen for scores of which a beam over one history gives some alone, and on another scale."""
    for name in ("sasrec", "gru4rec", "tiger"):
        WEIGHTS.write({}, {}, model=name)
    params = {"base": "sasrec", "added": "gru4rec"}
    SUMMARY.write({"chosen": {"weight": 1.0}, "params": params}, model="sum")
    content = load_params() | {"recommenders": ["sum"], "generate": {"tiger": {}}}
    for module in (recommendations, history_encoders, core_params):
        monkeypatch.setattr(module, "load_params", lambda *_: content)
    content["blend"] = {"sum": params}
    assert history_encoders.can_encode("sum")
    content["blend"] = {"sum": {"base": "sasrec", "added": "bert4rec"}}
    with pytest.raises(InputError, match=r"base sasrec and added gru4rec.*found sasrec and bert4rec.*repro blend@sum"):
        history_encoders.load_history_encoder("sum")
    content["blend"] = {"sum": {"base": "sasrec", "added": "tiger"}}
    with pytest.raises(InputError, match="expected one that can encode a new history"):
        recommendations.recommend_after(["k-2"], 2, "sum")


def test_a_blend_that_does_not_say_what_it_adds_is_named(catalogue) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text + "blend: {sasrec: {base: popularity}}\n")
    shown = runner.invoke(app, ["recommend", "--history", "k-2", "--recommender", "sasrec"])
    assert shown.exit_code == 2
    assert "params.yaml:blend.sasrec.added" in shown.stderr and shown.stderr.count("\n") == 1


def test_text_and_json_hold_the_same(catalogue) -> None:
    text = runner.invoke(app, ["recommend", "--user", "u-0", "-k", "1"]).stdout
    assert "Red lamp  [k-0]" in text
    assert "1. Gold lamp  [k-3]  3" in text
    content = json.loads(runner.invoke(app, ["recommend", "--user", "u-0", "-k", "1", "--json"]).stdout)
    assert content["items"] == [{"item_key": "k-3", "title": "Gold lamp", "score": 3.0, "cold": False}]


def test_lists_of_another_split_are_refused(catalogue) -> None:
    TOP.write(TOP.read(model="sasrec").head(4), model="sasrec")
    done = runner.invoke(app, ["recommend", "--user", "u-0", "--recommender", "sasrec", "-k", "1"])
    assert done.exit_code == 2
    assert "expected the lists of 6 queries, as split made; found 4. Remedy: run `dvc repro rank@sasrec`" in done.stderr


@pytest.mark.parametrize(("target", "note"), [("k-0", "it is in the history"), ("k-1", "it is not on the list")])
def test_why_a_target_has_no_rank(target, note) -> None:
    """A beam's list leaves out items that are candidates."""
    recommendation = Recommendation("tiger", "u-0", [NamedItem("k-0", "Red lamp")], [], NamedItem(target, ""), None)
    assert f"(no rank: {note})" in recommendation_as_text(recommendation)


def test_an_item_has_all_that_the_artifacts_hold(catalogue) -> None:
    item = Project.load().item("k-0")
    assert item.training_count == 2
    semantic_id = item.semantic_ids["text"]
    assert (semantic_id.codes, semantic_id.suffix) == ([1, 2], 0)
    assert semantic_id.shared_prefixes == [SharedPrefix(2, 1, ["Green lamp"]), SharedPrefix(1, 2, ["Blue lamp"])]
    neighbours = item.neighbours["text"]
    assert [near.item_key for near in neighbours] == ["k-1", "k-5", "k-2", "k-3", "k-4"]
    assert neighbours[2].cosine == pytest.approx(np.sqrt(0.5))
    assert item.neighbours["image"] == []
    assert item.embedding("text").tolist() == [2, 0]
    with pytest.raises(InputError, match="expected one of its modalities: text; found image"):
        item.embedding("image")
    text = item_as_text(item)
    assert "Semantic ID, text: 1-2" in text
    assert "in training: 2 times" in text
    assert (
        "  all codes shared with 1 other: Green lamp\n  first code shared with 2 others: for example Blue lamp\n"
        in text
    )
    assert "Nearest, image\n  the item lacks this modality" in text
    assert json.loads(item_as_json(item))["attributes"] == {"colour": "Red"}


def test_an_item_without_a_picture_is_no_neighbour_by_image(catalogue) -> None:
    assert "k-0" not in [near.item_key for near in Project.load().item("k-1").neighbours["image"]]


def test_shared_codes_are_counted_and_some_items_named() -> None:
    prefixes = [SharedPrefix(2, 7, ["A", "B", "C"]), SharedPrefix(1, 8, ["D"])]
    ids = {"text": SemanticId([4, 5, 6], 0, prefixes)}
    text = item_as_text(Item("k", "", "", "", [], {}, True, None, 1, {}, ids, {}, {}))
    assert (
        "  first 2 codes shared with 7 others: for example A; B; C\n  first code shared with 8 others: for example D"
        in text
    )


def test_an_empty_key_resembles_no_item(catalogue) -> None:
    result = runner.invoke(app, ["recommend", "--history", "k-0,", "--recommender", "sasrec"])
    assert result.exit_code == 2
    assert "found ''. Remedy: keys look like 'k-0'" in result.stderr


def test_an_unknown_item_is_answered_with_keys_like_it(catalogue) -> None:
    result = runner.invoke(app, ["show", "item", "k-9"])
    assert result.exit_code == 2
    assert "did you mean k-" in result.stderr


def test_no_item_shares_three_codes_without_sharing_the_first(catalogue) -> None:
    """24 items share the first three codes and 2 more the first: `show item` counts 24 and 26, never 2."""
    count, levels = 27, 4
    codes = np.tile(np.array([4, 5, 6, 0], dtype=np.int32), (count, 1))
    codes[1:25, 3] = 1
    codes[25:, 1] = 9
    titles = [f"t{item}" for item in range(count)]
    items = pl.DataFrame({"item_key": titles, "title": titles})
    prefixes = _shared_prefixes(0, np.arange(count), codes, items)
    assert [(prefix.levels, prefix.items, prefix.examples) for prefix in prefixes] == [
        (levels - 1, 24, ["t1", "t2", "t3"]),
        (1, 26, ["t25", "t26"]),
    ]
