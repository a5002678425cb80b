"""Every training's checkpoint is told apart by what its result depends on: a test fails for each that is dropped."""

import runpy
from collections import namedtuple
from types import SimpleNamespace

import pytest
from tests.pipeline.project import ROOT

from sidflow.training import checkpoint

pytestmark = pytest.mark.pipeline
Inputs = namedtuple("Inputs", "counts")
STAGES = {
    "train_sequential": ("sasrec",),
    "train_multimodal": ("dmesr_sasrec",),
    "train_ranker": ("candidate_ranker",),
    "quantize": (),
    "backbone": (),
    "finetune": ("mme_sid",),
}
# Their validation leaves the history out, or does not.
RANKED = {"train_sequential", "train_multimodal", "train_ranker", "finetune"}


class Located(Exception):
    """The checkpoint's path is known; nothing has to be trained."""


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory):
    return finished.copy(tmp_path_factory.mktemp("fingerprints") / "copy")


@pytest.fixture
def path_of(project, monkeypatch, tmp_path):
    """Return a function that returns the path of a stage's checkpoint under params and with code of a content."""
    code = tmp_path / "code.py"
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("SIDFLOW_DEVICE", "cpu")
    monkeypatch.setattr(checkpoint, "running_code", lambda: (code,))
    monkeypatch.setattr("sidflow.artifacts.recommenders.BACKBONE", SimpleNamespace(read=dict))
    monkeypatch.setattr("sidflow.mme_sid.item_tokens.load_item_inputs", lambda *given: Inputs(given[2]))
    monkeypatch.setattr("sidflow.mme_sid.fit.load_backbone", lambda *given: None)
    monkeypatch.setattr("sidflow.multimodal.fit.item_maker", lambda *given: None)
    monkeypatch.setattr("sidflow.multimodal.fit.prior_maker", lambda *given: None)
    original = checkpoint.Checkpoint.__init__

    def located(self, *given, **named):
        original(self, *given, **named)
        raise Located(self.path.name)

    monkeypatch.setattr(checkpoint.Checkpoint, "__init__", located)
    project.set_params({"modality": dict.fromkeys(project.params()["modality"])})  # none to be read
    text = (project.folder / "params.yaml").read_text()

    def path(stage, patch=None, content=""):
        monkeypatch.setattr("sidflow.core.files._touched", {"reads": set(), "writes": set(), "params": set()})
        code.write_text(content)
        if patch:
            project.set_params(patch)
        try:
            with pytest.raises(Located) as found:
                runpy.run_path(str(ROOT / f"stages/{stage}.py"))["main"](*STAGES[stage])
        finally:
            (project.folder / "params.yaml").write_text(text)
        return str(found.value)

    return path


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_result_depends_on_tells_checkpoints_apart(project, path_of, stage):
    params = project.params()
    changes = [{"seed": params["seed"] + 1}, {"threads": params["threads"] + 1}]
    if stage in RANKED:
        changes.append({"rank": {"exclude_history": not params["rank"]["exclude_history"]}})
    own = {
        "train_sequential": {"sasrec": {"loop": {"epochs": 3}}},
        "train_multimodal": {"dmesr_sasrec": {"model": {"loop": {"epochs": 3}}}},
        "train_ranker": {"candidate_ranker": {"hidden": 7}},
        "quantize": {"loop": {"epochs": 4}},
        "backbone": {"scratch": {"loop": {"epochs": 2}}},
        "finetune": {"mme_sid": {"loop": {"epochs": 3}}},
    }[stage]
    changes.append({stage: own})
    first = path_of(stage)
    assert path_of(stage) == first
    paths = [path_of(stage, change) for change in changes]
    paths.append(path_of(stage, content="changed"))
    assert len({first, *paths}) == len(paths) + 1, list(zip(changes, paths, strict=False))
