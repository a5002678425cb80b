"""What tells checkpoints apart, and the time that they carry over."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from sidflow.core import stage
from sidflow.core.errors import InputError
from sidflow.core.stage import seconds_spent
from sidflow.training.checkpoint import Checkpoint, Snapshot, restore_state, trained_buffers, trained_state


def test_settings_and_code_and_inputs_tell_checkpoints_apart(cache, tmp_path, monkeypatch):
    code = tmp_path / "code.py"
    code.write_text("a = 1")
    first = Checkpoint("t", {"a": 1}, code=[code]).path
    assert Checkpoint("t", {"a": 1}, code=[code]).path == first
    assert Checkpoint("t", {"a": 2}, code=[code]).path != first
    code.write_text("a = 2")
    changed = Checkpoint("t", {"a": 1}, code=[code]).path
    assert changed != first
    data = tmp_path / "data"
    data.write_text("1")
    monkeypatch.setattr("sidflow.core.files._touched", {"reads": {str(data)}, "writes": set(), "params": set()})
    with_input = Checkpoint("t", {"a": 1}, code=[code]).path
    data.write_text("2")
    assert len({changed, with_input, Checkpoint("t", {"a": 1}, code=[code]).path}) == 3


def test_a_checkpoint_is_of_the_script_and_of_the_packages_that_it_loads(tmp_path):
    script = tmp_path / "stage.py"
    script.write_text(
        "from pathlib import Path\n"
        "import sidflow\n"
        "from sidflow.training.checkpoint import running_code\n"
        "package = Path(sidflow.__file__).parent\n"
        "print(*[path if path == Path(__file__) else path.relative_to(package).parts[0] for path in running_code()])\n"
    )
    source = str(Path(__file__).parents[3] / "src")
    done = subprocess.run(
        [sys.executable, script], env=os.environ | {"PYTHONPATH": source}, capture_output=True, text=True, check=True
    )
    *packages, last = done.stdout.split()
    assert last == str(script)
    assert {"training", "core"} <= set(packages)
    assert "report" not in packages


def test_a_resumed_run_counts_the_time_of_the_killed_ones(cache, monkeypatch):
    def saved_after(name, seconds):
        monkeypatch.setattr(stage, "_resumed", {"seconds": seconds})
        checkpoint = Checkpoint(name, {}, code=[])
        checkpoint.save(Snapshot({"a": torch.zeros(1)}, {}))
        return checkpoint

    short, long = saved_after("short", 50_000.0), saved_after("long", 90_000.0)
    monkeypatch.setattr(stage, "_resumed", {"seconds": 0.0})
    assert seconds_spent() < 40_000
    short.load()
    assert 50_000 < seconds_spent() < 90_000
    long.load()
    short.load()  # of two trainings of a stage the later one's holds the earlier one's time, too
    assert 90_000 < seconds_spent() < 130_000


class Tied(nn.Module):
    """A language model's tables: one weight under two names."""

    def __init__(self, trained):
        super().__init__()
        self.words, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.head.weight = self.words.weight
        self.words.weight.requires_grad_(trained)
        self.register_buffer("steps", torch.zeros(()))


class Quantized(nn.Linear):
    """A frozen layer whose state has more than its parameters, as that of bitsandbytes' 4-bit layers."""

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight.absmax"] = torch.ones(4)


def test_a_tied_weight_is_kept_once_and_only_where_it_is_trained():
    """The head of a frozen language model is a second name of its words: 655 MB of Gemma 3 270M in fp32."""
    assert trained_state(Tied(False)).keys() == trained_buffers(Tied(False)).keys() == {"steps"}
    assert trained_state(Tied(True)).keys() == {"words.weight", "steps"}
    assert trained_buffers(Tied(True)).keys() == {"steps"}
    module, other = Tied(True), Tied(True)
    restore_state(other, trained_state(module))
    assert torch.equal(other.head.weight, module.words.weight)


def test_what_quantized_weights_bring_with_them_is_no_part_of_the_trained_state():
    assert not trained_state(Quantized(3, 2).requires_grad_(False))


STATE = {
    "weights": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "steps": torch.tensor(5),
    "mask": torch.tensor([True, False]),
    "none": torch.zeros(0, 4),
}


def saved(**settings):
    checkpoint = Checkpoint("t", settings, code=[])
    checkpoint.save(Snapshot(STATE, {"epoch": 3}))
    return checkpoint


def test_a_checkpoint_comes_back_as_it_was(cache):
    loaded = saved().load()
    assert loaded is not None
    assert loaded.values == {"epoch": 3}
    assert loaded.tensors.keys() == STATE.keys()
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in STATE.items())


def cut_at(share):
    return lambda content: content[: int(share * len(content))]


def changed_in(part):
    def change(content):
        position = content.index(part)
        return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]

    return change


DAMAGE = {
    "empty": cut_at(0.0),
    "cut in the header": cut_at(0.1),
    "cut in the tensors": cut_at(0.99),
    "zeros after a power cut": lambda content: bytes(len(content)),
    "a changed tensor": changed_in(torch.arange(6, dtype=torch.float32).numpy().tobytes()[8:12]),
    "a changed value": changed_in(b"epoch"),
    "no metadata": lambda content: (2).to_bytes(8, "little") + b"{}",
    "longer": lambda content: content + b"x",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_said_and_left_out(cache, damage, capsys):
    checkpoint = saved()
    checkpoint.path.write_bytes(DAMAGE[damage](checkpoint.path.read_bytes()))
    assert checkpoint.load() is None
    assert f"t: the checkpoint {checkpoint.path} is damaged; the training starts afresh" in capsys.readouterr().out
    checkpoint.save(Snapshot(STATE, {"epoch": 3}))
    assert checkpoint.load() is not None


def test_another_version_of_a_library_starts_afresh(cache, monkeypatch):
    path = saved().path
    monkeypatch.setattr(torch, "__version__", "0.0.1")
    assert Checkpoint("t", {}, code=[]).path != path


def test_a_cache_that_cannot_be_written_ends_before_the_training(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"checkpoints: expected a cache folder .* Remedy: set SIDFLOW_CACHE"):
        Checkpoint("t", {}, code=[])
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "folder"))
    monkeypatch.setattr(os, "access", lambda *args: False)  # a file system mounted read-only; root may write elsewhere
    with pytest.raises(InputError, match="found a folder that is read-only"):
        Checkpoint("t", {}, code=[])


KILLED_AFTER_ITS_LAST_CHECKPOINT = """
import os, signal, tempfile, torch
from sidflow.training.checkpoint import Checkpoint, Snapshot
tempfile._shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
Checkpoint("t", {}, code=[]).save(Snapshot({"a": torch.ones(1)}, {"epoch": 9}))
"""


RESUMED = """
from sidflow.training.checkpoint import Checkpoint
checkpoint = Checkpoint("t", {}, code=[])
print(checkpoint.load().values, len(list(checkpoint.path.parent.iterdir())))
checkpoint.discard()
print(len(list(checkpoint.path.parent.iterdir())))
"""


def test_nothing_is_left_of_a_training_that_was_killed_after_its_last_checkpoint(cache):
    """The checkpoint is whole, so that the run which resumes writes none and only discards it."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    printed = [
        subprocess.run(
            [sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True
        ).stdout
        for code in (KILLED_AFTER_ITS_LAST_CHECKPOINT, RESUMED)
    ]
    assert printed == ["", "{'epoch': 9} 2\n0\n"]
