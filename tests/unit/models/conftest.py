"""A folder of installed packages, a saved model, and the tokenizer that MME-SID's tests have."""

import shutil

import pytest
import torch
from tests.unit.mme_sid.conftest import tokenizer
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

__all__ = ["tokenizer"]
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.fixture
def saved(request, tmp_path, tokenizer):
    """A folder as transformers saves it."""
    request.addfinalizer(logging.enable_progress_bar)
    logging.disable_progress_bar()
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SHAPE)).save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages; `install` puts a package there that must not be imported."""
    folder = tmp_path / "site"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "cache"))

    def install(name, sources, version="1.0"):
        home = folder / name
        home.mkdir(parents=True, exist_ok=True)
        (home / "__init__.py").write_text("raise SystemExit('imported')\n")
        for path, source in sources.items():
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, home / path)
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        files = [path.relative_to(folder).as_posix() for path in sorted(home.rglob("*")) if path.is_file()]
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        return home

    return install
