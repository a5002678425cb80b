import io
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.evaluation import LEADERBOARD
from sidflow.artifacts.features import SEMANTICS
from sidflow.artifacts.semantic_ids import SEMANTIC_IDS
from sidflow.cli.ablations import DIAGNOSTICS
from sidflow.evaluation.compare import build_leaderboard
from sidflow.evaluation.evaluate import EvaluationInputs, evaluate
from sidflow.evaluation.params import CompareParams, EvaluateParams
from sidflow.evaluation.slices import ContentPresence
from sidflow.report.data import RankedLists, ReportData, ReportParams, best_method_and_baseline
from sidflow.report.page import render_page
from sidflow.report.sections.curves import still_improving
from sidflow.report.sections.examples import choose_queries
from sidflow.sequences.histories import Histories

NASTY = '<img src=x onerror=alert(1)> & "co"'
USERS, CORE = 12, 24
CUTS = EvaluateParams(head_share=0.25, tail_share=0.4, short_history=3, long_history=4)


def _jpeg(colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 100), (colour, 90, 90)).save(buffer, "JPEG")
    return buffer.getvalue()


def _histories() -> Histories:
    generator = np.random.default_rng(0)
    flat = np.concatenate([generator.permutation(CORE)[:6] for _ in range(USERS)]).astype(np.int32)
    offsets, user = np.arange(USERS + 1) * 6, np.repeat(np.arange(USERS), 2)
    end = np.tile([3, 4, 4, 5], USERS // 2)
    return Histories(
        flat,
        offsets,
        np.tile([3, 4], USERS // 2),
        user,
        end,
        np.tile([True, False], USERS),
        flat[offsets[user] + end].astype(int),
    )


def _truth(histories: Histories) -> pl.DataFrame:
    chances = np.random.default_rng(2).dirichlet(np.ones(CORE), histories.query_count).astype(np.float32)
    keys = {"user_id": histories.query_user.astype(np.int32), "position": histories.query_end.astype(np.int32)}
    return pl.DataFrame(keys).with_columns(pl.Series("probabilities", chances, dtype=pl.Array(pl.Float32, CORE)))


def _report_data(
    rich: bool = True, names: tuple[str, ...] = ("popularity", "sasrec", "mme_sid", "oracle")
) -> ReportData:
    histories, generator = _histories(), np.random.default_rng(1)
    evaluations, lists = {}, {}
    for name in names:
        top = np.array([generator.permutation(CORE)[:20] for _ in range(histories.query_count)], dtype=np.int32)
        ranks = generator.integers(1, 19, histories.query_count)
        lists[name] = RankedLists(name, top, ranks.astype(np.int32))
        frame = dict.fromkeys(("rank", "sampled_rank"), ranks) | {"candidates": np.full(len(ranks), CORE - 5)}
        matrix = generator.normal(size=(CORE, 4)).astype(np.float32)
        evaluations[name] = evaluate(
            EvaluationInputs(
                histories=histories,
                tied=np.zeros(histories.query_count, dtype=bool),
                ranks=pl.DataFrame({"query_id": np.arange(len(ranks)), **frame}).cast(pl.Int32),
                top=pl.DataFrame({"items": pl.Series(top, dtype=pl.Array(pl.Int32, 20))}),
                truth=_truth(histories) if rich else pl.DataFrame(),
                content=ContentPresence(*(np.arange(CORE) % 3 > lacking for lacking in (-1, 0))),
                item_matrix=matrix,
                item_table=matrix if rich else None,
                present=np.ones(CORE, dtype=bool) if rich else None,
                summary={},
            ),
            CUTS,
        )
    board = build_leaderboard({name: one.per_query for name, one in evaluations.items()}, CompareParams(draws=200))
    item = list(range(CORE))
    items = pl.DataFrame(
        {
            "item_id": item,
            "item_key": [f"k{i}" for i in item],
            "title": [NASTY if rich and i % 2 else "" for i in item],
            "description": [""] * CORE,
            "brand": [""] * CORE,
            "in_core": [True] * CORE,
        },
        schema_overrides={"item_id": pl.Int32},
    )
    ids = pl.DataFrame(
        [(i, modality, [i % 3, i % 2], 0) for i in item for modality in ("text", "image")],
        schema={"item_id": pl.Int32, "modality": pl.String, "codes": pl.Array(pl.Int32, 2), "suffix": pl.Int32},
        orient="row",
    )
    semantics = pl.DataFrame(
        [(i, "text", NASTY, NASTY, False) for i in item],
        schema={"item_id": pl.Int32, "view": pl.String, "text": pl.String, "writer": pl.String, "by_mllm": pl.Boolean},
        orient="row",
    )
    curve = [{"epoch": str(e), "loss": str(3 / e), "valid_ndcg_at_10": str(0.1 * e)} for e in (1, 2, 3)]
    return ReportData(
        preset=NASTY if rich else "bare",
        slice_cuts=CUTS.model_dump(),
        ingest={"users": USERS, "items_core": CORE, "density": 0.5, "source": NASTY},
        split={"users": USERS},
        leaderboard=board,
        metrics={name: one.metrics for name, one in evaluations.items()},
        slices={
            n: [{k: "" if v is None else str(v) for k, v in row.items()} for row in one.slices]
            for n, one in evaluations.items()
        },
        spectra={n: [{k: str(v) for k, v in row.items()} for row in one.spectrum] for n, one in evaluations.items()},
        curves={name: curve if rich else [] for name in names},
        summaries={name: {"best_epoch": 2} if rich else {} for name in names},
        quantizer_curves=curve if rich else [],
        quantizer_summary={"best_epoch": 2},
        items=items,
        pictures={i: _jpeg(i) for i in item[::2]} | {3: b"no picture"} if rich else {},
        semantics=semantics if rich else SEMANTICS.empty(),
        semantic_ids=ids if rich else SEMANTIC_IDS.empty(2),
        audit={
            "items_text": CORE,
            "items_distinct_text": 20,
            "collision_rate_text": 0.125,
            "collision_rate_distinct_text": 0.1,
            "collision_rate_resolved_text": 0.125,
            "collision_items_text": 3,
            "collision_groups_text": 1,
            "neighbour_recall_at_10_text": 0.7125,
            "reference_neighbour_recall_at_10_text": 0.6375,
        }
        if rich
        else {},
        user_keys=[NASTY if rich else f"u{u}" for u in range(USERS)],
        histories=histories,
        ablations={
            "metric": "ndcg_at_10",
            "commit": "0123456789abcdef",
            "rows": [
                {"row": "whole", "seeds": 3, "mean": 0.2, **dict.fromkeys(DIAGNOSTICS, 0.5)},
                {
                    "row": NASTY,
                    "seeds": 3,
                    "mean": 0.1,
                    "difference": -0.1,
                    "low": -0.12,
                    "high": -0.08,
                    "detectable": 0.0321,
                }
                | dict.fromkeys(DIAGNOSTICS),
            ],
        }
        if rich
        else None,
        ranked_lists=[lists[name] for name in best_method_and_baseline(board) if name is not None],
    )


class _Reader(HTMLParser):
    VOID = ("img", "br", "meta")

    def __init__(self) -> None:
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def _read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.mark.parametrize("rich", [True, False])
def test_the_page_is_whole_self_contained_and_nothing_in_it_runs(rich):
    text = render_page(_report_data(rich), ReportParams())
    reader = _read(text)
    assert not {"script", "img", "link", "iframe", "object"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert not re.findall(r"(?:https?:|//)[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    assert "nan" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text).lower().replace("finance", "")


def test_the_same_artifacts_give_the_same_bytes():
    assert render_page(_report_data(), ReportParams()) == render_page(_report_data(), ReportParams())


def test_ablations_are_on_the_page_where_they_ran():
    assert "Ablations of MME-SID" in render_page(_report_data(), ReportParams())
    data = _report_data()
    assert "0.0321" in render_page(data, ReportParams())  # the smallest difference that would be detected
    assert data.ablations is not None
    for row in data.ablations["rows"]:
        row.pop("detectable", None)  # tables of before have none
    assert "0.0321" not in render_page(data, ReportParams())
    assert "Ablations of MME-SID" not in render_page(_report_data(rich=False), ReportParams())


def test_pictures_enter_once_downsized_and_only_those_used():
    text = render_page(_report_data(), ReportParams(users=1, items=0, history=2, recommendations=3, thumbnail=40))
    data = _report_data()
    encoded = re.findall(r"\.p(\d+)\{background-image", text)
    assert len(encoded) == len(set(encoded))
    shown = {int(item) for item in re.findall(r'class="face p(\d+)"', text)}
    assert shown == {int(item) for item in encoded} <= set(data.pictures)


def test_expected_metrics_are_shown_where_the_catalogue_is_synthetic():
    rich, bare = render_page(_report_data(), ReportParams()), render_page(_report_data(rich=False), ReportParams())
    for text_part in ("of the best possible", "without the noise of sampled targets", ">expected<"):
        assert text_part in rich
        assert text_part not in bare


def test_absent_parts_are_replaced_by_text():
    text = render_page(_report_data(rich=False), ReportParams())
    assert "item k0" in text
    assert "No description." in text
    assert "No semantic ID." in text
    assert "No figures." in text
    assert ">Training<" not in text


def test_a_hit_is_marked_in_the_list_that_has_it():
    data = _report_data()
    one = data.ranked_lists[0]
    query = int(np.flatnonzero(~data.histories.query_valid)[0])
    one.rank[:] = 15
    one.top[:] = (np.arange(20) + 1)[None, :]
    targets = data.histories.targets.copy()
    targets[:] = 0
    missed = render_page(
        data._replace(histories=data.histories._replace(targets=targets), ranked_lists=[one]), ReportParams(users=1)
    )
    assert "tile hit" not in missed
    one.top[:, 4] = 0
    one.rank[:] = 5
    page_with_hit = render_page(
        data._replace(histories=data.histories._replace(targets=targets), ranked_lists=[one]), ReportParams(users=1)
    )
    assert page_with_hit.count("tile hit") == 1
    assert query >= 0


def test_example_users_are_of_every_outcome_and_of_the_test_part():
    ranks = [np.array([1, 1, 99, 99, 1]), np.array([1, 99, 1, 99, 1])]
    shown = [RankedLists(str(place), np.zeros((5, 20), dtype=np.int32), rank) for place, rank in enumerate(ranks)]
    test = np.array([True, True, True, True, False])
    assert choose_queries(shown, test, 4, 10) == [0, 1, 2, 3]
    assert choose_queries(shown, test, 9, 10) == [0, 1, 2, 3]
    assert choose_queries(shown, test, 2, 10) == [0, 1]


@pytest.mark.parametrize(
    "names", [("popularity",), ("popularity", "oracle"), ("mme_sid",), ("mme_sid", "dmesr_sasrec", "sasrec")]
)
def test_any_set_of_recommenders_makes_a_page(names):
    text = render_page(_report_data(names=names), ReportParams())
    _read(text)
    for name in names:
        assert name in text


def test_the_best_method_is_chosen_on_validation():
    board = dict(_report_data(names=("mme_sid", "dmesr_a", "sasrec")).leaderboard)
    assert best_method_and_baseline(board) == ("mme_sid", "sasrec")
    board["recommenders"] = {name: one for name, one in board["recommenders"].items() if name != "mme_sid"}
    assert best_method_and_baseline(board) == ("dmesr_a", "sasrec")


def test_the_leaderboard_document_can_be_written_and_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    board = _report_data().leaderboard
    LEADERBOARD.write(board)
    assert LEADERBOARD.read()["best_baseline"] == board["best_baseline"]
    assert ITEMS.path.startswith("artifacts/")


def _text(made: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", made, flags=re.DOTALL)).split())


def test_every_item_of_a_group_of_collisions_counts():
    text = _text(render_page(_report_data(), ReportParams()))
    assert "Compared with residual k-means" in text and "0.7125" in text and "0.6375" in text
    assert "12.5 % of 24 items share all their codes with another one before suffixes: 3 items in 1 group." in text
    assert "Among the 20 items with distinct inputs: 10.0 %." in text
    assert "After reassignment" not in text


def test_training_that_ended_while_it_still_improved_is_marked():
    data, warning = _report_data(), "still improving at the limit of epochs"
    assert warning not in render_page(data, ReportParams())
    late = data._replace(summaries={**data.summaries, "sasrec": {"best_epoch": 3}})
    assert render_page(late, ReportParams()).count(warning) == 1
    unjudged = [{"epoch": "1", "loss": "3"}, {"epoch": "2", "loss": "2"}]
    assert not still_improving(unjudged, {"best_epoch": 2})
    judged = [{"epoch": "1", "valid_ndcg_at_10": "0.1"}, {"epoch": "2", "valid_ndcg_at_10": "0.2"}]
    meant_to = {"loop": {"schedule": "cosine"}}
    assert still_improving(judged, {"best_epoch": 2})
    assert not still_improving(judged, {"best_epoch": 2, "params": meant_to})
    assert not still_improving(judged, {"best_epoch": 2, "params": {"model": meant_to}})


def test_terms_lead_to_definitions_with_the_thresholds_of_the_run():
    text = render_page(_report_data(), ReportParams())
    for anchor in re.findall(r'href="#([^"]+)"', text):
        assert f'id="{anchor}"' in text
    for text_part in (
        "hold 25\u2009% of",
        "hold 40\u2009% of",
        "more than 4 earlier",
        "above 0.001 of",
    ):
        assert text_part in text
    assert {"term-effective-rank", "term-perplexity", "term-head", "term-minimum-detectable-effect"} <= set(
        re.findall(r'id="([^"]+)"', text)
    )


def test_only_slices_that_divide_the_queries_are_shown():
    anchors = set(re.findall(r'id="([^"]+)"', render_page(_report_data(), ReportParams())))
    assert {"term-last-event", "term-earlier-event", "term-medium-history", "term-without-picture"} <= anchors
    assert not {"term-short-history", "term-without-text"} & anchors  # of none, or of all


def test_only_methods_get_a_verdict_on_the_page():
    data = _report_data()
    text = render_page(data, ReportParams())
    assert text.count("not under test") == 1  # one baseline; the best one is what they are compared with
    assert len(re.findall(r'class="chip (?:shown|behind|contradicted|undecided)"', text)) == 3  # two cards, one row


def test_duplicates_are_named_with_the_setting_that_differs():
    data = _report_data()
    assert "the same ranks" not in render_page(data, ReportParams())
    board = {**data.leaderboard, "equal": [["popularity", "sasrec"]]}
    chosen = {"popularity": {"chosen": {"window": 2}}, "sasrec": {"chosen": {"window": 2, "content": 0.0}}}
    text = render_page(data._replace(leaderboard=board, summaries={**data.summaries, **chosen}), ReportParams())
    assert "same ranks as sasrec" in text
    assert "sasrec has the setting content, chosen on validation as 0." in text
    assert "setting window" not in text
