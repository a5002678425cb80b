"""What is told of users and items, on a catalogue small enough to know the answers."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from sidflow.cli import app
from sidflow.commands import recommend, show
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
    ],
)
def test_bad_questions_end_in_one_line(catalogue, arguments, said) -> None:
    result = runner.invoke(app, ["recommend", *arguments])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr


def test_a_runtime_setting_with_a_typo_is_refused(catalogue, monkeypatch) -> None:
    monkeypatch.setenv("SIDFLOW_DEVICE", "gpu")
    result = runner.invoke(app, ["recommend", "--user", "u-1"])
    assert result.exit_code == 2
    assert result.stderr.startswith("SIDFLOW_DEVICE: expected one of auto, cpu, cuda; found 'gpu'")


def test_a_new_history_goes_through_the_models_encoder(catalogue, monkeypatch) -> None:
    def scores(model, history):
        assert (model, history) == ("sasrec", [2, 0])
        return np.array([0, 1, 2, 1, 0], dtype=np.float32)

    monkeypatch.setattr(recommend, "_scores", scores)
    found = recommend.recommend(None, ["k-2", " k-0"], 2, "sasrec")
    assert [(one.item_key, one.score) for one in found.items] == [("k-1", 1.0), ("k-3", 1.0)]


def test_text_and_json_say_the_same(catalogue) -> None:
    text = runner.invoke(app, ["recommend", "--user", "u-0", "-k", "1"]).stdout
    assert "Red lamp  [k-0]" in text
    assert "1. Gold lamp  [k-3]  3" in text
    content = json.loads(runner.invoke(app, ["recommend", "--user", "u-0", "-k", "1", "--json"]).stdout)
    assert content["items"] == [{"item_key": "k-3", "title": "Gold lamp", "score": 3.0}]


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
    assert json.loads(show.as_json(found))["attributes"] == {"colour": "Red"}


def test_an_absent_picture_is_nobodys_neighbour(catalogue) -> None:
    assert "k-0" not in [one.item_key for one in show.item("k-1").neighbours["image"]]


def test_an_unknown_item_is_told_with_its_neighbours(catalogue) -> None:
    result = runner.invoke(app, ["show", "item", "k-9"])
    assert result.exit_code == 2
    assert "did you mean k-" in result.stderr
