"""LoRA through peft: put on, written with stable bytes, and put back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from sidflow.contracts import trace
from sidflow.contracts.errors import InputError
from sidflow.contracts.files import atomic_path
from sidflow.llm.params import LoraParams
from sidflow.llm.quiet import quiet
from sidflow.llm.saving import announce

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def put_on(model: PreTrainedModel, params: LoraParams) -> PeftModel | PreTrainedModel:
    """Return `model` with a fresh adapter, the only thing in it that trains; as it is where LoRA is off.

    Raises:
        InputError: no module of the model has a target's name.
    """
    if not params.enabled:
        return model
    ends = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    unknown = [target for target in params.targets if target not in ends]
    if unknown or not params.targets:
        linear = sorted(end for end in ends if end.endswith(("_proj", "proj", "fc", "dense")))
        raise InputError(
            "params.yaml:finetune.*.lora.targets",
            expected=f"names of the backbone's modules, such as {linear}",
            found=f"{unknown or 'none'}",
            remedy="name modules that this backbone has, or set lora.enabled to false",
        )
    config = LoraConfig(
        r=params.rank,
        lora_alpha=params.alpha,  # type: ignore[arg-type]  # peft divides by it; fractions work
        lora_dropout=params.dropout,
        target_modules=list(params.targets),
        task_type="CAUSAL_LM",
    )
    with quiet():
        return get_peft_model(model, config)  # type: ignore[return-value]


def save(model: PeftModel | PreTrainedModel, folder: Path, about: Mapping[str, Any]) -> None:
    """Write the adapter to `folder` as PEFT does, less its model card; nothing where there is no adapter.

    The config's sets are sorted, and the base model is named by repository and commit or not at all, so that the
    bytes depend neither on the hash seed nor on the machine.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if not isinstance(model, PeftModel):
        return
    with quiet():
        model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    content = json.loads((folder / CONFIG).read_text())
    for key, value in content.items():
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            content[key] = sorted(value)
    content["base_model_name_or_path"] = about["repo"] or None
    content["revision"] = about["commit"] or None
    with atomic_path(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    announce(folder)


def load(model: PreTrainedModel, folder: Path) -> PeftModel | PreTrainedModel:
    """Return `model` with the saved adapter, frozen; as it is where none was saved."""
    if not (folder / CONFIG).is_file():
        return model
    for name in (CONFIG, WEIGHTS):
        trace.note_read(folder / name)
    with quiet():
        return PeftModel.from_pretrained(model, str(folder)).eval()
