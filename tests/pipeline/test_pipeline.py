"""The whole DAG through DVC, as a person runs it."""

import json
import re
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from tests.pipeline.project import Project, ran
from tests.pipeline.warm import Warm

pytestmark = pytest.mark.pipeline
EMBEDDED = ("embed", "audit_embeddings")  # both run where the encoders change


@pytest.fixture
def borrowed(finished, tmp_path):
    """A copy of the finished project, to be changed at will."""
    return finished.copy(tmp_path / "copy")


def test_a_second_run_does_nothing_and_says_so(finished):
    output = finished.run("dvc", "repro")
    assert not ran(output)
    assert "Data and pipelines are up to date" in output


def test_the_same_inputs_give_the_same_bytes(finished, tmp_path_factory):
    """The command that a doubter types: everything again in a copy, no cache shared, and every hash compared.

    Python's hashes have another seed than in the first run, so that the order of no set gets into a result.
    """
    other = Warm(tmp_path_factory.getbasetemp() / "w", hash_seed=1)
    output = Project(finished.folder, Path(finished.environment["SIDFLOW_CACHE"]), other).run("sidflow", "verify")
    other.close()
    told = dict(re.findall(r"^(?:same|DIFFERS) +(\S+) +([0-9a-f]+(?:\.dir)?)$", output, flags=re.MULTILINE))
    assert told == finished.hashes()
    assert f"{len(told)} artifacts are the same, 0 differ." in output


def test_every_recommender_has_its_costs_which_enter_no_artifact(borrowed):
    rows = {row["recommender"]: row for row in json.loads(borrowed.run("sidflow", "leaderboard", "--json"))}
    assert rows.keys() == set(borrowed.params()["recommenders"])
    for name in ("train_seconds", "seconds_with_inputs", "peak_memory_mb", "users_per_second"):
        assert all(row[name] > 0 for row in rows.values()), name
    assert f"costs of {len(rows)} of {len(rows)} recommenders" in borrowed.run("sidflow", "leaderboard", "--page")
    assert not ran(borrowed.run("dvc", "repro"))


def _inside(project, path):
    """Return `path` as seen from the project's folder."""
    return Path(path).relative_to(project.folder) if Path(path).is_absolute() else Path(path)


def inside(path, places):
    return any(path == place or place in path.parents for place in places)


def test_stages_use_what_they_declare(finished, pipeline_cache):
    reads_of_group = defaultdict(set)  # the stages of a group share deps: each dep is read by one of them at least
    deps_of_group = {}
    for name, stage in finished.lock().items():
        group = name.partition("@")[0]
        trace = YAML(typ="safe").load((pipeline_cache / "trace" / f"{name}.json").read_text())
        touched = {
            kind: {
                Path(path).relative_to(finished.folder) if Path(path).is_absolute() else Path(path) for path in paths
            }
            for kind, paths in trace.items()
            if kind != "params"
        }
        code = ("src/", "stages/")
        deps = {Path(dep["path"]) for dep in stage["deps"] if not dep["path"].startswith(code)}
        outs = {Path(out["path"]) for out in stage["outs"]}

        declared = set(stage.get("params", {}).get("params.yaml", {}))
        assert set(trace["params"]) | {"preset"} == declared | {"preset"}, name  # every stage's cost is kept by preset

        own = touched["writes"]
        reads_of_group[group] |= touched["reads"]
        deps_of_group.setdefault(group, set()).update(deps)
        assert all(inside(path, deps | own) for path in touched["reads"]), (name, touched["reads"], deps)
        assert all(inside(path, outs) for path in own), (name, own, outs)
        assert all(any(inside(path, [out]) for path in own) for out in outs), (name, own, outs)
    optional = [Path(name) for name in ("artifacts/writer", "models", "presets/grammar.yaml", "prompts")]  # of a writer
    for group, deps in deps_of_group.items():
        deps.difference_update(optional if group in ("describe", "train_writer") else [])
        deps.difference_update([Path("artifacts/backbone")] if group == "generate" else [])  # of a language model
        unread = [dep for dep in deps if not any(inside(path, [dep]) for path in reads_of_group[group])]
        assert not unread, (group, unread)


def test_a_changed_param_reruns_what_follows_from_it_alone(borrowed):
    draws = borrowed.params()["compare"]["draws"]
    borrowed.set_params({"compare": {"draws": draws + 10}})
    assert borrowed.repro() == {"compare", "report"}
    borrowed.set_params({"train_counting": {"cooccurrence": {"lasts": [2]}}})
    own = {f"{stage}@cooccurrence" for stage in ("train_counting", "rank", "evaluate")}
    assert borrowed.repro() == {*own, "compare", "report"}


def test_the_list_of_recommenders_decides_what_runs(borrowed):
    chosen = {"popularity", "sasrec", "cooccurrence_content"}
    borrowed.run("sidflow", "recommenders", *chosen)
    stages = set(borrowed.run("dvc", "stage", "list", "--name-only").split())
    trained = {name.partition("@")[2] for name in stages if name.startswith(("train_", "finetune")) and "@" in name}
    assert trained == chosen
    assert not [name for name in stages if name.startswith(("quantize", "assign", "backbone", "modality"))]
    assert borrowed.repro() == {*EMBEDDED, "compare", "report"}, "the report has no IDs, and only one encoder is used"
    borrowed.run("git", "checkout", "-q", "params.yaml")  # `tiny` is no preset that entries could come back from
    borrowed.run("sidflow", "recommenders", "mme_sid")
    stages = set(borrowed.run("dvc", "stage", "list", "--name-only").split())
    assert {"train_sequential@sasrec", "modality@collaborative", "quantize@shared", "finetune@mme_sid"} <= stages
    assert "rank@sasrec" not in stages
    # `assign` gets its default `least_recall_ratio`, which tiny.yaml's null removed; its IDs stay, and so what follows.
    assert borrowed.repro() <= {*EMBEDDED, "assign@shared", "compare", "report"}, "nothing is trained again"


def test_what_a_list_edited_by_hand_does_not_need_is_refused_with_the_command_that_removes_it(borrowed):
    borrowed.set_params({"recommenders": ["popularity", "mme_sid"]})
    output = borrowed.run("dvc", "repro", "-f", "-s", "train_sequential@gru4rec", check=False)
    assert "train_sequential.gru4rec: expected entries that `recommenders` lists" in output
    assert "Remedy: `sidflow recommenders` removes what the list does not need, then `dvc repro`" in output
    borrowed.run("dvc", "repro", "-f", "-s", "train_sequential@sasrec")  # MME-SID reads its item table


def test_what_a_blend_reads_is_made_without_being_listed(borrowed):
    borrowed.run("sidflow", "recommenders", "mme_sid_blend")
    stages = set(borrowed.run("dvc", "stage", "list", "--name-only").split())
    assert {"train_ranker@candidate_ranker", "finetune@mme_sid", "blend@mme_sid_blend", "rank@mme_sid_blend"} <= stages
    assert not stages & {"rank@candidate_ranker", "rank@mme_sid", "blend@sasrec_features_blend"}
    borrowed.run("dvc", "repro", "-f", "-s", "train_ranker@candidate_ranker")


@pytest.mark.parametrize("recommender", ["candidate_ranker", "mme_sid_blend", "mme_sid_features_blend"])
def test_after_a_users_own_history_comes_what_was_ranked_for_the_user(borrowed, recommender):
    def recommend(*arguments):
        return json.loads(borrowed.run("sidflow", "recommend", "--recommender", recommender, "--json", *arguments))

    ranked = recommend("--user", "U000001", "-k", "5")
    history = ",".join(item["item_key"] for item in ranked["history"])
    fresh = recommend("--history", history, "-k", "5")
    assert [item["item_key"] for item in fresh["items"]] == [item["item_key"] for item in ranked["items"]]
    scores = [[item["score"] for item in one["items"]] for one in (fresh, ranked)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_one_refitted_recommender_among_others_is_refused(borrowed):
    borrowed.set_params({"train_counting": {"markov": {"refit": True}}})
    output = borrowed.run("dvc", "repro", check=False)
    assert ran(output) == {"train_counting@markov", "rank@markov", "evaluate@markov", "compare"}
    assert "compare: artifacts/evaluations: expected all refitted on train + validation before the test" in output


def test_what_does_not_change_a_result_reruns_nothing(borrowed):
    (borrowed.folder / "runtime.yaml").write_text("device: cpu\ncheckpoint_seconds: 5\n")
    assert borrowed.repro() == set()


def test_a_teammate_recomputes_nothing(finished, tmp_path):
    finished.run("dvc", "remote", "add", "--local", "-f", "-d", "shared", str(tmp_path / "remote"))
    finished.run("dvc", "push", "-q")
    finished.run("git", "clone", "-q", str(finished.folder), str(tmp_path / "mate"))
    mate = Project(tmp_path / "mate", tmp_path / "mates-cache")
    mate.run("dvc", "remote", "add", "--local", "-d", "shared", str(tmp_path / "remote"))
    mate.run("dvc", "pull", "-q")
    output = mate.run("dvc", "repro")
    assert not ran(output)
    assert (mate.folder / "artifacts/report/report.html").is_file()
    assert not mate.run("git", "status", "--porcelain")


def test_an_experiment_in_a_temporary_copy_runs_its_own_code_on_the_same_data(borrowed):
    page = borrowed.folder / "stages/report.py"
    told = 'if __name__ == "__main__":\n    import sidflow\n\n    print(sidflow.__file__)\n'
    page.write_text(page.read_text().replace('if __name__ == "__main__":\n', told))
    before = borrowed.run("git", "status", "--porcelain")
    output = borrowed.run("dvc", "exp", "run", "--temp", "-S", "report.users=2")
    assert ran(output) == {"report"}
    places = re.findall(r"^(/\S+/src/sidflow/__init__\.py)$", output, flags=re.MULTILINE)
    assert places, output[-3000:]
    assert all("/.dvc/tmp/exps/" in place for place in places)
    assert borrowed.run("git", "status", "--porcelain") == before


def _start(project, *command):
    return subprocess.Popen(
        ["python", *command], cwd=project.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=project.environment | {"PYTHONPATH": "src", "SIDFLOW_CHECKPOINT_SECONDS": "0.0001"},
    )  # fmt: skip


def _kill_once_saved(project, *command):
    """Start a training, and kill it as soon as it has left a checkpoint."""
    folder = Path(project.environment["SIDFLOW_CACHE"]) / "checkpoints"
    process = _start(project, *command)
    deadline = time.monotonic() + 120
    while not list(folder.glob("*.safetensors")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


TRAININGS = {
    "train_sequential@gru4rec": ("stages/train_sequential.py", "gru4rec", "artifacts/recommenders/gru4rec"),
    "train_ranker@candidate_ranker": (
        "stages/train_ranker.py",
        "candidate_ranker",
        "artifacts/recommenders/candidate_ranker",
    ),
    "quantize@shared": ("stages/quantize.py", "artifacts/quantizer"),
    "finetune@mme_sid": ("stages/finetune.py", "mme_sid", "artifacts/recommenders/mme_sid"),
    "finetune@mme_sid_anchored": ("stages/finetune.py", "mme_sid_anchored", "artifacts/recommenders/mme_sid_anchored"),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_killed_training_resumes_to_the_same_bytes(borrowed, tmp_path, name):
    *command, out = TRAININGS[name]
    borrowed.environment["SIDFLOW_CACHE"] = str(tmp_path / "own-cache")
    _kill_once_saved(borrowed, *command)
    shutil.rmtree(borrowed.folder / out)
    output = borrowed.run("python", *command, PYTHONPATH="src")
    assert "resumed at" in output
    assert not borrowed.run("dvc", "status", name, "-q", check=False), "other bytes than the run that was not killed"
    assert not list((tmp_path / "own-cache").rglob("*.safetensors")), "the checkpoint goes with success"


def test_a_stage_whose_code_changed_does_not_resume(borrowed, tmp_path):
    borrowed.environment["SIDFLOW_CACHE"] = str(tmp_path / "own-cache")
    _kill_once_saved(borrowed, "stages/train_sequential.py", "sasrec")
    script = borrowed.folder / "stages/train_sequential.py"
    script.write_text(script.read_text() + "\n# changed\n")
    assert "resumed at" not in borrowed.run("python", "stages/train_sequential.py", "sasrec", PYTHONPATH="src")


def test_bad_input_is_one_line_exit_code_2_and_loses_nothing(borrowed):
    before = (borrowed.folder / "artifacts/split/queries.parquet").read_bytes()
    (borrowed.folder / "artifacts/catalog/interactions.parquet").write_bytes(b"torn")
    done = subprocess.run(
        ["python", "stages/split.py"], cwd=borrowed.folder, capture_output=True, text=True, check=False,
        env=borrowed.environment | {"PYTHONPATH": "src"},
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "artifacts/catalog/interactions.parquet: expected a Parquet file" in done.stderr
    assert (borrowed.folder / "artifacts/split/queries.parquet").read_bytes() == before
