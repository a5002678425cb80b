"""What is told of users and items, on a catalogue small enough to know the answers."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from sidflow.cli import app
from sidflow.commands import recommend, show
from sidflow.contracts.artifacts.mme_sid import COLD_ROWS
from sidflow.contracts.errors import InputError

runner = CliRunner()


def test_a_known_user_gets_what_rank_wrote_for_the_test_query(catalogue) -> None:
    found = recommend.recommend("u-1", None, 2, "sasrec")
    assert [one.item_key for one in found.history] == ["k-0", "k-1", "k-2"]
    assert [(one.item_key, one.score) for one in found.items] == [("k-2", 3.0), ("k-3", 2.0)]
    assert found.followed is not None
    assert found.followed.title == "Gold lamp"
    assert found.followed_rank is None  # rank 3 of 2 candidates: it stood in the history
    assert recommend.recommend("u-1", None, 2, "popularity").followed_rank == 2


def test_empty_places_are_not_shown_and_too_many_are_refused(catalogue) -> None:
    assert len(recommend.recommend("u-0", None, 4, None).items) == 3
    with pytest.raises(InputError, match=r"rank\.top"):
        recommend.recommend("u-0", None, 5, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user", "u-11"], "did you mean u-1"),
        (["--user", "u-1", "--history", "k-1"], "either --user or --history"),
        ([], "either --user or --history"),
        (["--user", "u-1", "--model", "none"], "popularity, sasrec"),
        (["--history", "k-5", "--model", "sasrec"], "items of the core"),
        (["--history", "k-0", "--model", "popularity"], "cannot"),
        (["--history", "gold"], "k-3 (Gold lamp)"),
        (["--user", "u-1", "--include-cold"], "over the core"),
    ],
)
def test_bad_questions_end_in_one_line(catalogue, arguments, said) -> None:
    result = runner.invoke(app, ["recommend", *arguments])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr


def test_only_what_is_fine_tuned_can_be_merged(catalogue, tmp_path) -> None:
    result = runner.invoke(app, ["merge", "--model", "popularity", "--out", str(tmp_path / "merged")])
    assert result.exit_code == 2
    assert result.stderr.startswith("--model: expected one of `finetune` in params.yaml: ")
    assert "found popularity" in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "merged").exists()


def test_a_runtime_setting_with_a_typo_is_refused(catalogue, monkeypatch) -> None:
    monkeypatch.setenv("SIDFLOW_DEVICE", "gpu")
    result = runner.invoke(app, ["recommend", "--user", "u-1"])
    assert result.exit_code == 2
    assert result.stderr.startswith("SIDFLOW_DEVICE: expected one of auto, cpu, cuda; found 'gpu'")


def answered(scores, candidate):
    """What stands in for a trained model: these scores of every item."""
    arrays = {
        "query_states": np.ones((1, 1), dtype=np.float32),
        "item_matrix": np.array(scores, dtype=np.float32)[:, None],
    }
    return recommend.Asked(arrays, np.array(candidate, dtype=bool))


def test_a_new_history_goes_through_the_models_encoder(catalogue, monkeypatch) -> None:
    def asked(model, history, cold):
        assert (model, history, cold) == ("sasrec", [2, 0], False)
        return answered([0, 1, 2, 1, 0], [1] * 5)

    monkeypatch.setattr(recommend, "_asked", asked)
    found = recommend.recommend(None, ["k-2", " k-0"], 2, "sasrec")
    assert [(one.item_key, one.score) for one in found.items] == [("k-1", 1.0), ("k-3", 1.0)]
    assert len(recommend.recommend(None, ["k-2", "k-0"], 9, "sasrec").items) == 3  # all there is


@pytest.mark.parametrize("has_row", [True, False])
def test_cold_items_are_marked_and_those_without_a_row_are_told(catalogue, monkeypatch, has_row) -> None:
    monkeypatch.setattr(recommend, "_asked", lambda *_: answered([0, 1, 2, 1, 0, 5], [1] * 5 + [has_row]))
    arguments = ["recommend", "--history", "k-2", "--model", "sasrec", "-k", "2", "--include-cold"]
    text = runner.invoke(app, arguments).stdout
    content = json.loads(runner.invoke(app, [*arguments, "--json"]).stdout)
    marks = [(one["item_key"], one["cold"]) for one in content["items"]]
    if has_row:
        assert marks == [("k-5", True), ("k-1", False)]
        assert "1. Odd thing  [k-5]  5  (cold: outside the core)\n" in text
        assert "Green lamp  [k-1]  1\n" in text
        assert content["never"] == 0
        assert "Never" not in text
    else:
        assert marks == [("k-1", False), ("k-3", False)]
        assert "cold:" not in text
        assert content["never"] == 1
        assert "Never recommended, having no modality: 1 item outside the core\n" in text


def test_a_model_without_cold_rows_says_which_has_some(catalogue, monkeypatch) -> None:
    monkeypatch.setattr(recommend, "_can_encode", lambda model: True)
    arguments = ["recommend", "--history", "k-2", "--model", "sasrec", "--include-cold"]
    assert "rows of cold items from sasrec; found none. Remedy: `dvc repro fine" in runner.invoke(app, arguments).stderr
    COLD_ROWS.write({"values": np.ones((1, 2), np.float32), "present": np.ones(1, bool)}, {}, model="popularity")
    assert "--model popularity" in runner.invoke(app, arguments).stderr


def test_text_and_json_say_the_same(catalogue) -> None:
    text = runner.invoke(app, ["recommend", "--user", "u-0", "-k", "1"]).stdout
    assert "Red lamp  [k-0]" in text
    assert "1. Gold lamp  [k-3]  3" in text
    content = json.loads(runner.invoke(app, ["recommend", "--user", "u-0", "-k", "1", "--json"]).stdout)
    assert content["items"] == [{"item_key": "k-3", "title": "Gold lamp", "score": 3.0, "cold": False}]


def test_an_item_is_shown_with_all_there_is(catalogue) -> None:
    found = show.item("k-0")
    assert found.training_count == 2
    identity = found.semantic_ids["text"]
    assert (identity.codes, identity.suffix) == ([1, 2], 0)
    assert [(one.depth, one.count, one.examples) for one in identity.sharing] == [
        (2, 1, ["Green lamp"]),
        (1, 1, ["Blue lamp"]),
    ]
    near = found.neighbours["text"]
    assert [one.item_key for one in near] == ["k-1", "k-5", "k-2", "k-3", "k-4"]
    assert near[2].cosine == pytest.approx(np.sqrt(0.5))
    assert found.neighbours["image"] == []
    text = show.as_text(found)
    assert "Semantic ID, text: 1-2" in text
    assert "in training: 2 times" in text
    assert "  all codes shared with 1 other: Green lamp\n  first code shared with 1 other: Blue lamp\n" in text
    assert json.loads(show.as_json(found))["attributes"] == {"colour": "Red"}


def test_an_absent_picture_is_nobodys_neighbour(catalogue) -> None:
    assert "k-0" not in [one.item_key for one in show.item("k-1").neighbours["image"]]


def test_shared_codes_are_counted_and_some_items_named() -> None:
    identity = show.SemanticId([4, 5, 6], 0, [show.Sharing(2, 7, ["A", "B", "C"]), show.Sharing(1, 1, ["D"])])
    item = show.Item("k", "", "", "", [], {}, True, "", 1, {}, {"text": identity}, {})
    text = show.as_text(item)
    assert "  first 2 codes shared with 7 others: for example A; B; C\n  first code shared with 1 other: D" in text


def test_an_empty_key_is_nobodys_misspelling(catalogue) -> None:
    result = runner.invoke(app, ["recommend", "--history", "k-0,", "--model", "sasrec"])
    assert result.exit_code == 2
    assert "found ''. Remedy: keys look like 'k-0'" in result.stderr


def test_an_unknown_item_is_told_with_its_neighbours(catalogue) -> None:
    result = runner.invoke(app, ["show", "item", "k-9"])
    assert result.exit_code == 2
    assert "did you mean k-" in result.stderr
