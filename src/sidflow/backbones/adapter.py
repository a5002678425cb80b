"""LoRA adapters through PEFT: added to a model, saved with stable bytes, loaded again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from sidflow.backbones.lora import make_lean
from sidflow.backbones.models import record_written_files
from sidflow.backbones.params import LoraParams
from sidflow.core.errors import InputError
from sidflow.core.files import atomic_folder, note_read
from sidflow.models.loading import without_library_output

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def add_adapter(
    model: PreTrainedModel,
    params: LoraParams,
    tokens: Mapping[str, Sequence[int]] | None = None,
    section: str = "finetune",
) -> PeftModel | PreTrainedModel:
    """Return `model` with a fresh adapter, its only trainable weights; unchanged where LoRA is off.

    Args:
        model: a causal LM.
        params: of the adapter.
        tokens: by name of an embedding or output layer, the rows of its table that are trained as well.
        section: of params.yaml that the params are from, for messages.

    Raises:
        InputError: a target is the name of no linear layer of the model, or there are no targets.

    Source: Hu et al. 2022, LoRA.
    """
    if not params.enabled:
        return model
    ends = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    unknown = [target for target in params.targets if target not in ends]
    if unknown or not params.targets:
        linear = sorted(end for end in ends if end.endswith(("_proj", "proj", "fc", "dense")))
        raise InputError(
            f"params.yaml:{section}.*.lora.targets",
            expected=f"names of the backbone's modules, such as {linear}",
            found=f"{unknown or 'none'}",
            remedy="name modules that this backbone has, or set lora.enabled to false",
        )
    config = LoraConfig(
        r=params.rank,
        lora_alpha=params.alpha,  # type: ignore[arg-type]  # peft divides by it; fractions work
        lora_dropout=params.dropout,
        target_modules=list(params.targets),
        trainable_token_indices={name: list(rows) for name, rows in tokens.items()} if tokens else None,
        task_type="CAUSAL_LM",
    )
    try:
        with without_library_output():
            adapted = get_peft_model(model, config)
    except ValueError as error:  # a target that is no linear layer
        raise InputError(
            f"params.yaml:{section}.*.lora.targets",
            expected="names of linear layers of the backbone",
            found=f"{list(params.targets)}: {error}"[:300],
            remedy="name linear layers alone, or set lora.enabled to false",
        ) from error
    make_lean(adapted)
    return adapted  # type: ignore[return-value]


def save_adapter(model: PeftModel | PreTrainedModel, folder: Path, backbone: Mapping[str, Any]) -> None:
    """Write the adapter to `folder` as PEFT does, without its model card; nothing where the model has no adapter.

    The config's sets are sorted, and the base model is named by repository and commit or not at all. The bytes
    therefore depend neither on the hash seed nor on the machine.

    Args:
        model: with or without an adapter.
        folder: replaced.
        backbone: the backbone's record.
    """
    if not isinstance(model, PeftModel):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with atomic_folder(folder) as temporary:
        with without_library_output():
            model.save_pretrained(str(temporary), save_embedding_layers=False)
        (temporary / "README.md").unlink(missing_ok=True)
        config = _config(json.loads((temporary / CONFIG).read_text()), backbone)
        (temporary / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    record_written_files(folder)


def _config(content: dict[str, Any], backbone: Mapping[str, Any]) -> dict[str, Any]:
    """Return PEFT's config with sets in order, and the base model by repository and commit."""
    for key, value in content.items():
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            content[key] = sorted(value)
    content["base_model_name_or_path"] = backbone["repo"] or None
    content["revision"] = backbone["commit"] or None
    return content


def load_adapter(model: PreTrainedModel, folder: Path, params: LoraParams) -> PeftModel | PreTrainedModel:
    """Return `model` with the saved adapter, frozen; unchanged where LoRA was off.

    Args:
        model: a causal LM.
        folder: of the adapter.
        params: that it was trained by.

    Raises:
        InputError: the adapter is absent, or its weights are no safetensors file.
    """
    if not params.enabled:
        return model
    if not (folder / CONFIG).is_file():
        raise InputError(
            str(folder / CONFIG),
            expected="the adapter that was trained",
            found="no such file",
            remedy="`dvc repro` (or `dvc pull`) the stage that trains it",
        )
    if not (folder / WEIGHTS).is_file():  # PEFT would read pickled weights in its place
        raise InputError(
            str(folder / WEIGHTS),
            expected="the adapter's weights",
            found="no such file",
            remedy="run `dvc repro` (or `dvc pull`) to make it",
        )
    for name in (CONFIG, WEIGHTS):
        note_read(folder / name)
    with without_library_output():
        adapted = PeftModel.from_pretrained(model, str(folder)).eval()
    make_lean(adapted)
    return adapted
