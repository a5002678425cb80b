"""The Python API on a small finished project, and every example of docs/api.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import sidflow
from sidflow.artifacts.evaluation import LEADERBOARD
from sidflow.artifacts.semantic_ids import QUANTIZER
from sidflow.serving import recommendations
from sidflow.serving.history_encoders import HistoryFactors

DOCS = Path(__file__).parents[3] / "docs/api.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
KEYS = {"U000001": "u-1", "P00001": "k-1", "P00002": "k-2"}  # of the embedded catalogue, and of this small one


def entry(kind: str, ndcg: float) -> dict:
    metrics = {"ndcg_at_10": ndcg, "recall_at_10": 1 - ndcg, "mean_log2_rank": 1 / ndcg}
    return {
        "kind": kind,
        "metrics": {name: {"mean": mean, "low": mean - 0.1, "high": mean + 0.1} for name, mean in metrics.items()},
    }


@pytest.fixture
def project(catalogue, monkeypatch) -> sidflow.Project:
    """Return the small project, with a quantizer and a leaderboard; the current folder is another one."""
    large = np.array([[3, 0], [0, 3], [-3, 0], [0, -3]], dtype=np.float32)
    padded, fine = np.append(large, [[0, 0]], axis=0), np.append(large / 10, [[9, 9]], axis=0)
    arrays = {
        "codebooks.text": np.stack([padded, fine]).astype(np.float32),
        "mean.text": np.zeros(2, dtype=np.float32),
        "scale.text": np.ones(1, dtype=np.float32),
    }
    QUANTIZER.write(arrays, {"modalities": {"text": {"codes": [4, 5], "items": 6}}, "order": ["text"]})
    difference = {"difference": 0.1, "low": 0.05, "high": 0.15, "relative": 0.5, "p_corrected": 0.01}
    LEADERBOARD.write(
        {
            "primary": "ndcg_at_10",
            "best_baseline": "popularity",
            "recommenders": {"popularity": entry("baseline", 0.2), "sasrec": entry("method", 0.3)},
            "differences": {"sasrec": {"ndcg_at_10": {**difference, "verdict": "shown"}}},
        }
    )
    (catalogue / "elsewhere").mkdir()
    monkeypatch.chdir(catalogue / "elsewhere")
    return sidflow.Project.load(catalogue)


def printed(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parents[1] / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "print([name for name in ('torch', 'polars', 'numpy') if name in sys.modules])"
    assert printed(f"import sys, sidflow; {heavy}") == "[]"
    assert printed("import sys, sidflow; sidflow.Project; print('torch' in sys.modules)") == "False"


def test_the_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Projekt'"):
        sidflow.Projekt  # noqa: B018


def test_a_folder_without_a_project_is_an_error(tmp_path) -> None:
    with pytest.raises(sidflow.InputError, match=r"params\.yaml"):
        sidflow.Project.load(tmp_path)
    (tmp_path / "params.yaml").write_text("preset: embedded\n")
    with pytest.raises(sidflow.InputError, match=r"items\.parquet: .* Remedy: run `dvc repro`"):
        sidflow.Project.load(tmp_path)


def test_a_project_is_read_from_another_folder(project) -> None:
    assert (project.preset, project.recommenders, project.modalities) == (
        "embedded",
        ["popularity", "sasrec"],
        ["text", "image"],
    )
    assert project.recommend("u-1", k=1).items[0].item_key == "k-2"
    assert project.item("k-1").title == "Green lamp"
    assert not list(Path().iterdir())


def test_two_projects_do_not_meet(project, tmp_path_factory) -> None:
    other_folder = tmp_path_factory.mktemp("other")
    for file in ("params.yaml", "artifacts/catalog/items.parquet"):
        (other_folder / file).parent.mkdir(parents=True, exist_ok=True)
        (other_folder / file).write_bytes((project.path / file).read_bytes())
    other = sidflow.Project.load(other_folder)
    assert project.item("k-1").semantic_ids
    assert other.item("k-1").semantic_ids == {}


def test_semantic_ids_and_embeddings_join_by_item_key(project) -> None:
    ids = project.semantic_ids()
    assert ids.columns == ["item_key", "title", "modality", "codes", "suffix"]
    assert ids.row(1) == ("k-1", "Green lamp", "text", [1, 2], 1)
    assert project.embeddings("image")["item_key"].to_list() == [f"k-{row}" for row in range(1, 6)]  # k-0 has none
    assert project.embeddings("text")["vector"][2].to_list() == [1, 1]
    assert project.source_vectors("image")["item_key"].to_list() == [f"k-{row}" for row in range(1, 6)]
    assert project.source_vectors("text")["vector"][2].to_list() == [2, 2]
    for read in (project.embeddings, project.source_vectors):
        with pytest.raises(sidflow.InputError, match="expected one of the names text, image; found sound"):
            read("sound")


def test_the_leaderboard_is_a_frame_with_the_best_first(project) -> None:
    board = project.leaderboard()
    assert board["recommender"].to_list() == ["sasrec", "popularity"]
    assert board.row(0, named=True)["relative_difference"] == 0.5
    assert board.row(1, named=True)["verdict"] is None
    assert project.leaderboard("recall_at_10")["recommender"].to_list() == ["popularity", "sasrec"]
    assert project.leaderboard("mean_log2_rank")["recommender"].to_list() == ["sasrec", "popularity"]  # lower is better
    with pytest.raises(sidflow.InputError, match=r"expected one of .*ndcg_at_10.*; found 'ndcg'"):
        project.leaderboard("ndcg")


def test_queries_carry_the_keys_of_their_users(project) -> None:
    queries = project.per_query("sasrec")
    assert queries.columns[:3] == ["query_id", "user_key", "part"]
    assert queries.filter(part="test")["user_key"].to_list() == ["u-0", "u-1", "u-2"]
    with pytest.raises(sidflow.InputError, match="expected one of the names popularity, sasrec; found bert"):
        project.per_query("bert")


def test_new_items_get_ids_and_old_ones_keep_theirs(project) -> None:
    vectors = pl.DataFrame({"item_key": ["new", "k-0"], "vector": [[3.0, 0.31], [-3.0, 0.0]]})
    ids = project.assign_new({"text": vectors})
    assert ids.filter(item_key="k-0").drop("new").rows() == [("k-0", "text", [1, 2], 0)]
    assert ids.filter("new").rows() == [("new", "text", [0, 1], 0, True)]
    with pytest.raises(sidflow.InputError, match="expected a modality of the quantizer: text; found image"):
        project.assign_new({"image": vectors})


def test_the_docs_have_examples() -> None:
    assert len(EXAMPLES) >= 7
    assert {"recommend(", "item(", "leaderboard(", "per_query(", "assign_new(", "semantic_ids("} <= {
        call for example in EXAMPLES for call in re.findall(r"\w+\(", example)
    }


def test_every_example_of_the_docs_runs(project, monkeypatch) -> None:
    factors = {
        "query_states": np.ones((1, 1), dtype=np.float32),
        "item_matrix": np.arange(5, dtype=np.float32)[:, None],
    }
    monkeypatch.setattr(recommendations, "can_encode", lambda _: True)
    monkeypatch.setattr(
        recommendations, "load_history_encoder", lambda _: lambda *_: HistoryFactors(factors, np.ones(5, dtype=bool))
    )
    monkeypatch.chdir(project.path)
    names: dict[str, object] = {}
    for example in EXAMPLES:
        code = re.sub("|".join(KEYS), lambda match: KEYS[match.group()], example).replace("k=5", "k=3")
        exec(compile(code, DOCS.name, "exec"), names)
    assert names["item"].title == "Green lamp"  # type: ignore[attr-defined]
    assert names["board"].height == 2  # type: ignore[attr-defined]
    assert Path("ids.parquet").is_file()
