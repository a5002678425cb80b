"""The stage as DVC runs it, in a shop where what comes next is never in doubt."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from ruamel.yaml import YAML
from tests.unit.generative.cases import KINDS
from tests.unit.generative.shop import (
    COUNT,
    LOOP,
    hashes,
    ranking_of,
    stage_main,
    write_codebooks,
    write_ids,
    write_params,
)
from tests.unit.killing import second_fit_resumes
from tests.unit.sequential.cases import CYCLE

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.recommenders import CURVES, FACTORS, IDS, SUMMARY
from sidflow.artifacts.semantic_ids import SEMANTIC_IDS
from sidflow.core.errors import InputError
from sidflow.generative.fit import GenerativeTask, make_model
from sidflow.generative.ranking import CandidateTree
from sidflow.generative.serve import GenerativeRecommender
from sidflow.sequences.histories import load_histories
from sidflow.training.devices import prepare_training
from sidflow.training.loop import fit


@pytest.mark.parametrize(("kind", "ranking"), [("decoder", "exact"), ("decoder", "beam"), ("encoder_decoder", "beam")])
def test_the_obvious_successor_comes_first(shop, kind, ranking):
    write_params(tiger={"architecture": kind, "ranking": ranking})
    stage_main()("tiger")
    ranks = ranking_of("tiger")
    assert (ranks.rank == 1).mean() > 0.9
    assert ranks.sharing is None  # suffixes tell all items apart
    summary = SUMMARY.read(model="tiger")
    assert summary["items_with_id"] == CYCLE and summary["id_collision_rate"] == 0
    assert summary["beam_recall_of_exact_top_10"]["100"] == 1.0
    assert float(CURVES.read(model="tiger")[-1]["loss"]) < 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_second_fit_goes_on_to_the_same_bytes(shop, kind, monkeypatch):
    entry = {"architecture": kind, "refit": True, "loop": LOOP | {"epochs": 2}, "dropout": 0.3}
    write_params(tiger=entry)
    expected, resumed = second_fit_resumes(lambda: stage_main()("tiger"), lambda: hashes("tiger"), monkeypatch)
    assert resumed == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_fit_takes_as_many_epochs_as_validation_chose_and_ends_with_the_last(shop, kind):
    """Its weights are those of one fit to training and validation events, without any validation."""
    loop = LOOP | {"epochs": 6, "learning_rate": 0.002}
    write_params(tiger={"architecture": kind, "refit": True, "loop": loop})
    stage_main()("tiger")
    summary, served = SUMMARY.read(model="tiger"), GenerativeRecommender("tiger")
    assert 1 < summary["refit_epochs"] == summary["best_epoch"]
    device = prepare_training(3, 1)  # seed and threads of the shop
    model = make_model(served.ids, served.params)
    candidates = CandidateTree(served.ids, served.core, device)
    task = GenerativeTask(model, load_histories().before_test(), served.ids, candidates, served.params)
    assert task.validate() == {}
    fit("by hand", task, served.params.loop, seed=3, device=device, stop_after=summary["best_epoch"])
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(served.model.state_dict()[name], weight)


def test_two_fits_answer_their_own_part(shop):
    write_params(once={"loop": LOOP | {"epochs": 3}}, twice={"loop": LOOP | {"epochs": 3}, "refit": True})
    main = stage_main()
    main("once")
    main("twice")
    once, twice = ranking_of("once"), ranking_of("twice")
    valid = load_histories().query_valid
    assert (once.top.items[valid] == twice.top.items[valid]).all()
    assert not (once.top.scores[~valid] == twice.top.scores[~valid]).all()


@pytest.mark.parametrize("ranking", ["exact", "beam"])
def test_items_of_one_id_share_their_rank(shop, ranking):
    write_ids([(item % 6 // 2, item % 2) for item in range(COUNT)])  # two items to an ID, 6 apart
    write_params(tiger={"ids": {"suffix": "none"}, "ranking": ranking})
    stage_main()("tiger")
    arrays = FACTORS.read(model="tiger").arrays
    assert arrays[IDS][0] == arrays[IDS][6] != arrays[IDS][1]
    histories, ranks = load_histories(), ranking_of("tiger")
    assert ranks.sharing is not None and ranks.id_rank is not None
    assert SUMMARY.read(model="tiger")["id_collision_rate"] == pytest.approx(CYCLE / COUNT, abs=1e-5)
    checked = 0
    for query in range(histories.query_count):
        both = (histories.targets[query] + 6) % CYCLE not in histories.history(query)
        assert ranks.sharing[query] == int(both)
        if ranks.id_rank[query] == 1:
            assert ranks.rank[query] == 1 + int(both)
            checked += both
    assert checked > 10


def test_vocabulary_and_children_train_alike_where_every_code_is_a_child(shop):
    """All prefixes but those of one item have all codes: the two differ by the tokens of other levels."""
    write_ids([(item % 4, item // 4 % 4) for item in range(COUNT)])
    write_params(tiger={"normalise": "vocabulary"})
    stage_main()("tiger")
    assert (ranking_of("tiger").rank == 1).mean() > 0.9


def test_a_new_item_with_an_id_is_generated_without_training(shop):
    """Item 12 gets an ID after training, of which the model knows every code."""
    write_params(tiger={})
    stage_main()("tiger")
    recommender = GenerativeRecommender("tiger")
    _, listed = recommender.answer([0, 1, 2], include_cold=True)
    assert not listed[COUNT - 1]
    write_ids([(item % 4, item // 4) for item in range(COUNT)], absent=())
    recommender = GenerativeRecommender("tiger")
    arrays, listed = recommender.answer([0, 1, 2], include_cold=True)
    assert listed[COUNT - 1] and listed.sum() == COUNT
    scores = dict(zip(arrays["query_indices"].tolist(), arrays["query_values"].tolist(), strict=True))
    assert max(scores, key=scores.__getitem__) == 3
    arrays, _ = recommender.answer([COUNT - 1, COUNT - 1])  # and it is read
    assert len(arrays["query_indices"]) == COUNT


def test_what_a_history_of_unknown_items_gets_is_finite(shop):
    write_params(
        tiger={"loop": LOOP | {"epochs": 1}}, t5={"architecture": "encoder_decoder", "loop": LOOP | {"epochs": 1}}
    )
    for name in ("tiger", "t5"):
        stage_main()(name)
        recommender = GenerativeRecommender(name)
        for history in ([], [COUNT - 1]):
            arrays, listed = recommender.answer(history)
            assert listed.sum() == CYCLE and np.isfinite(arrays["query_values"]).all()


def test_a_catalogue_of_one_item(shop):
    items = ITEMS.read()
    write_ids([(0, 0)] * COUNT, absent=range(1, COUNT))
    write_params(tiger={"loop": LOOP | {"epochs": 1}})
    stage_main()("tiger")
    assert SUMMARY.read(model="tiger")["items_with_id"] == 1
    assert items.height == COUNT
    histories, first = load_histories(), ranking_of("tiger").top.items[:, 0]
    assert [item == 0 for item in first] == [0 not in histories.history(query) for query in range(len(first))]


def test_an_item_that_the_id_file_lacks_is_read_as_unknown_and_ranked_last(shop):
    """Item 3 is in every other history; what follows it is learned all the same."""
    write_ids([(item % 4, item // 4) for item in range(COUNT)], absent=(3, COUNT - 1))
    write_params(tiger={})
    stage_main()("tiger")
    assert SUMMARY.read(model="tiger")["items_with_id"] == CYCLE - 1
    histories, ranks = load_histories(), ranking_of("tiger")
    missing = histories.targets == 3
    assert missing.sum() > 2 and (ranks.rank[~missing] == 1).mean() > 0.9
    for query in np.flatnonzero(missing):
        others = COUNT - len(set(histories.history(query).tolist()))
        assert ranks.rank[query] >= others - 1


def test_what_cannot_be_generated_is_refused(shop, monkeypatch, capsys):
    write_params(tiger={"ids": {"modalities": ["image"]}})
    with pytest.raises(SystemExit) as ended:
        stage_main()("tiger")
    assert ended.value.code == 2
    assert "expected semantic IDs of the modality `image`" in capsys.readouterr().err
    write_ids([(0, 0)] * COUNT, absent=range(COUNT))
    write_params(tiger={})
    with pytest.raises(SystemExit):
        stage_main()("tiger")
    assert "expected IDs of some of the 13 core items; found none" in capsys.readouterr().err
    write_params(tiger={"architecture": "t5"})
    with pytest.raises(SystemExit):
        stage_main()("tiger")
    assert "expected decoder | encoder_decoder | language_model; found 't5'" in capsys.readouterr().err
    write_ids([(item % 4, item // 4) for item in range(COUNT)])
    monkeypatch.setattr("sidflow.generative.fit.EXACT_SCORES", 100)
    write_params(tiger={"ranking": "exact"})
    with pytest.raises(SystemExit):
        stage_main()("tiger")
    assert "expected `beam` for more than 100 scores" in capsys.readouterr().err


def test_a_name_stands_once_in_an_id(shop, capsys):
    write_params(tiger={"ids": {"modalities": ["text", "text"]}})
    with pytest.raises(SystemExit):
        stage_main()("tiger")
    assert "expected `modalities` with every name once; found text, text" in capsys.readouterr().err


@pytest.mark.parametrize("counts", [[4, 4, 4], [4], [2, 4]])
def test_ids_that_the_quantizer_cannot_have_given_are_one_line(shop, counts, capsys):
    write_ids([(item % 4, item // 4) for item in range(COUNT)])
    write_codebooks(counts)
    write_params(tiger={})
    with pytest.raises(SystemExit):
        stage_main()("tiger")
    assert f"expected codes of `text` below {counts}, as the quantizer has them" in capsys.readouterr().err


def test_a_recommender_of_other_codebooks_is_refused(shop):
    write_params(tiger={"loop": LOOP | {"epochs": 1}})
    stage_main()("tiger")
    GenerativeRecommender("tiger")
    write_codebooks([4, 4], seed=1)
    with pytest.raises(
        InputError, match=r"codebooks whose semantic IDs tiger was trained on.*dvc repro generate@tiger"
    ):
        GenerativeRecommender("tiger")


def test_a_recommender_of_other_levels_is_refused(shop):
    write_params(tiger={"loop": LOOP | {"epochs": 1}})
    stage_main()("tiger")
    content = YAML(typ="safe").load(Path("params.yaml").read_text())
    assert content["generate"]["tiger"]["beam"] == 20
    SEMANTIC_IDS.write(SEMANTIC_IDS.read().with_columns(suffix=pl.col("item_id").cast(pl.Int32)))
    assert GenerativeRecommender("tiger").ids.present.sum() == 2  # it was trained on the suffixes 0 and 1
    torch.manual_seed(0)
    with pytest.raises(InputError, match="recommenders/other"):
        GenerativeRecommender("other")
