"""What MME-SID has beside the factors: the adapter as PEFT writes it, and the heads around the language model."""

from pathlib import Path

from sidflow.contracts.tensors import TensorFile

ADAPTER = Path(
    "artifacts/recommenders/mme_sid/adapter"
)  # adapter_config.json, adapter_model.safetensors; absent without LoRA

HEADS = TensorFile(  # `item_tokens.*` and `fusion.*`: every trained weight outside the language model, and the masks
    name="heads", version=1, path="artifacts/recommenders/mme_sid/heads.safetensors", arrays={}, free=True
)
