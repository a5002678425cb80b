"""Two CPU processes against one: the same losses and weights, for DDP and for FSDP; and the stage that starts them."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file
from tests.unit.mme_sid import several_processes

from sidflow.artifacts.recommenders import CURVES, FACTORS, HEADS
from sidflow.mme_sid.model import MmeSid, MmeSidTask
from sidflow.mme_sid.params import FinetuneParams

ROOT = Path(__file__).parents[3]
LAUNCH = "import sys; from sidflow.training.devices import launch_processes; launch_processes(2, *sys.argv[1:])"
FROZEN_LINEAR = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)  # entries of the linear layers of both decoder layers


def run(*command, cwd, **settings):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "SIDFLOW_DEVICE": "cpu"}
    environment |= {"OMP_NUM_THREADS": "1", "SIDFLOW_CACHE": str(cwd / "cache"), **settings}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder where two processes left what they trained."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "params.yaml").write_text("threads: 1\n")
    done = run("-c", LAUNCH, several_processes.__file__, str(folder), cwd=folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def one():
    """What one process trains, by the kind of score prior."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIDFLOW_DEVICE", "cpu")
        return {kind: several_processes.finetuned(kind) for kind in ("none", "both", "sampled")}


@pytest.mark.parametrize(("sharding", "kind"), several_processes.CASES)
def test_two_processes_train_as_one(one, two, sharding, kind):
    curves, tensors, split = one[kind]
    told = json.loads((two / "told.json").read_text())[f"{sharding}-{kind}"]
    assert [row["loss"] for row in told["curves"]] == pytest.approx([row["loss"] for row in curves], rel=1e-5)
    assert told["curves"] == [pytest.approx(row, rel=1e-5) for row in curves]
    assert (split, told["split"]) == (0, FROZEN_LINEAR if sharding == "fsdp" else 0)
    for rank in (0, 1):
        found = load_file(two / f"{sharding}-{kind}-{rank}.safetensors")
        assert set(found) == set(tensors)
        for name, tensor in tensors.items():
            torch.testing.assert_close(
                found[name], tensor, rtol=1e-3, atol=1e-4, msg=lambda told, name=name: name + told
            )


def numbers(curves):
    return [{name: float(value) for name, value in row.items()} for row in curves]


def bytes_of(folder, name):
    return {key: tensor.numpy().tobytes() for key, tensor in load_file(folder / f"{name}.safetensors").items()}


def test_processes_end_with_the_same_weights(two):
    for name in ("ddp-both", "ddp-sampled", "fsdp-both", "dropout", "resumed"):
        assert bytes_of(two, f"{name}-0") == bytes_of(two, f"{name}-1")


def test_a_killed_training_of_two_processes_resumes_to_the_same_bytes(two):
    assert bytes_of(two, "resumed-0") == bytes_of(two, "dropout-0") != bytes_of(two, "ddp-both-0")


def test_a_batch_is_split_into_all_its_rows_and_positions(tiny, backbone):
    past = tiny.histories()
    params = FinetuneParams(max_length=4)
    task = MmeSidTask(MmeSid(backbone, tiny.inputs(), past, params), past, params)
    length = task.model.windows.lengths - 1
    for batch in (torch.arange(13), torch.tensor([5, 2]), torch.tensor([7])):
        parts = [task.split_batch(batch, rank, 3) for rank in range(3)]
        kept = [rows for rows, share in parts if share]
        assert sorted(torch.cat(kept).tolist()) == sorted(batch.tolist())
        assert all(len(rows) for rows, _ in parts)  # all have to meet, those without a row too
        shares = [share for _, share in parts]
        assert shares[: len(kept)] == [int(length[rows].sum()) / int(length[batch].sum()) for rows in kept]
        assert sum(shares) == pytest.approx(1)


@pytest.fixture
def copied(ran, tiny, tmp_path, monkeypatch):
    """The folder of a run of both stages, as the current one, without the models and without dropout."""
    shutil.copytree(ran / "artifacts", tmp_path / "artifacts")
    shutil.rmtree(tmp_path / "artifacts/recommenders")
    params = copy.deepcopy(tiny.params)
    params["finetune"]["anchored"] |= {"token_dropout": 0.0, "lora": {"rank": 2, "dropout": 0.0}, "refit": True}
    params["finetune"]["anchored"]["anchoring"]["dropout"] = 0.0
    with (tmp_path / "params.yaml").open("w") as handle:
        YAML().dump(params, handle)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_stage_starts_its_processes_and_one_of_them_speaks_and_writes(copied, monkeypatch):
    from stages import finetune

    settings = {"SIDFLOW_PROCESSES": "2", "SIDFLOW_SHARDING": "fsdp", "SIDFLOW_TRACE": str(copied / "trace")}
    done = run(str(ROOT / "stages/finetune.py"), "anchored", cwd=copied, **settings)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    told = [line.split("  ")[0] for line in done.stdout.splitlines()]
    stages = ("finetune@anchored", "finetune@anchored-refit")
    assert told == [f"{stage}: epoch {epoch}/2" for stage in stages for epoch in (1, 2)]
    trace = json.loads((copied / "trace/finetune@anchored.json").read_text())
    assert "artifacts/recommenders/anchored/factors.safetensors" in trace["writes"]
    (cost,) = (json.loads(path.read_text()) for path in (copied / "cache/costs/finetune@anchored").iterdir())
    assert cost["peak_memory_mb"] > 10
    assert cost["processes"] == 2
    assert "artifacts/recommenders/anchored/factors.safetensors" in cost["outputs"]
    assert not list((copied / "cache").rglob("*.safetensors"))

    curves = numbers(CURVES.read(model="anchored"))
    tensors = [kind.read(model="anchored").arrays for kind in (FACTORS, HEADS)]
    files = {path.name for path in (copied / "artifacts/recommenders/anchored").rglob("*")}
    shutil.rmtree(copied / "artifacts/recommenders")
    monkeypatch.setenv("SIDFLOW_DEVICE", "cpu")
    finetune.main("anchored")
    assert curves == [pytest.approx(row, rel=1e-5) for row in numbers(CURVES.read(model="anchored"))]
    assert files == {path.name for path in (copied / "artifacts/recommenders/anchored").rglob("*")}
    for found, kind in zip(tensors, (FACTORS, HEADS), strict=True):
        alone = kind.read(model="anchored").arrays
        assert set(found) == set(alone)
        alone.pop("anchor.popularity_raw", None)  # all items are equally popular here: its gradient is rounding alone
        for name, array in alone.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=1e-4, err_msg=name)


def test_bad_input_is_one_line_and_exit_code_2_from_two_processes_too(copied):
    (copied / "artifacts/split/queries.parquet").write_bytes(b"torn")
    done = run(str(ROOT / "stages/finetune.py"), "anchored", cwd=copied, SIDFLOW_PROCESSES="2")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("finetune@anchored: artifacts/split/queries.parquet: expected a Parquet file")
    assert not done.stdout


def test_more_processes_than_devices_are_refused_before_they_start(copied, monkeypatch, capsys):
    from stages import finetune

    monkeypatch.chdir(copied)
    monkeypatch.setenv("SIDFLOW_PROCESSES", "3")
    monkeypatch.setattr("sidflow.training.devices.pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(SystemExit, match="2"):
        finetune.main("anchored")
    assert "runtime processes: expected one for each CUDA device at most, 2; found 3" in capsys.readouterr().err
