"""Whether a causal language model can be a backbone: one history through the prompted backbone, as fine-tuning does.

transformers has families that take no embeddings in place of tokens, keep no keys and values, or ignore the attention
mask. Some of them raise; others compute something else without a word. So the states are compared with those of the
model's own forward pass over the same sequence.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sidflow.backbones.models import Backbone, backbone_folder, load_backbone
from sidflow.backbones.params import PROMPT
from sidflow.backbones.prompted_backbone import PromptedBackbone, tokenize_prompt
from sidflow.core.errors import InputError
from sidflow.models.loading import without_library_output

LARGE = 4e9  # bytes of weights from which on they are tried in bf16
TOLERANCES = {torch.float32: 0.001, torch.bfloat16: 0.2}  # of the relative error
SMALLEST_EFFECT = 0.001  # relative to the states; behind a short window the instruction has none
REMEDY = "point params.yaml:backbone at a decoder-only transformer, such as a Llama, Qwen, Mistral, Gemma or GPT-2"


def check_recorded_backbone(record: dict, history: int) -> None:
    """Load the model of `record` (backbone.json) and check it with a history of `history` items.

    Raises:
        InputError: as `check_backbone`, or the model cannot be loaded.
    """
    folder = backbone_folder(record)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    check_backbone(load_backbone(record, "fp32" if size < LARGE else "bf16"), history, folder)


@torch.no_grad()
def check_backbone(backbone: Backbone, history: int, folder: Path) -> None:
    """Run one history through the prompted backbone, with both readouts.

    Args:
        backbone: loaded, in evaluation mode.
        history: items of the history.
        folder: of the model, for messages.

    Raises:
        InputError: the model cannot take the prompt or item tokens, has too few positions, or its states are not those
            of its own forward pass.
    """
    prompt = tokenize_prompt(backbone.tokenizer, PROMPT)
    for readout in ("last_item", "response") if prompt.marker else ("last_item",):
        try:
            reader = PromptedBackbone(backbone.model, prompt, readout).eval()
            _require_width(reader, folder)
            with without_library_output():
                error = _relative_error(reader, history)
        except InputError:
            raise
        except Exception as problem:  # whatever the model's own code raises
            message = str(problem).splitlines()[0] if str(problem) else ""
            raise _unusable(backbone, folder, f"{type(problem).__name__}: {message}"[:300]) from problem
        if not error <= TOLERANCES[backbone.model.dtype]:  # NaN too
            raise _unusable(backbone, folder, f"states that differ from its own forward pass (relative {error:.2g})")


def _unusable(backbone: Backbone, folder: Path, found: str) -> InputError:
    return InputError(
        str(folder),
        expected="a causal LM that reads item tokens after a cached instruction",
        found=f"{found}, of a model of type {backbone.model.config.model_type}",
        remedy=REMEDY,
    )


def _require_width(reader: PromptedBackbone, folder: Path) -> None:
    """Check that embeddings are as wide as states, since item tokens stand beside them."""
    width, hidden = reader.embed_tokens(reader.instruction).shape[-1], reader.config.hidden_size
    if width != hidden:
        raise InputError(
            str(folder),
            expected=f"token embeddings as wide as the hidden states ({hidden})",
            found=f"embeddings {width} wide",
            remedy=REMEDY,
        )


def _relative_error(reader: PromptedBackbone, history: int) -> float:
    """Return the error of states at the first, middle and last item, relative to the effect of another instruction.

    The plain pass has [instruction; items up to the position; marker where it is read]. Two histories are in a batch.
    """
    words = reader.embed_tokens(reader.instruction).expand(2, -1, -1)
    generator = torch.Generator().manual_seed(0)
    other_words, tokens = (
        (torch.randn(2, length, words.shape[2], generator=generator) * words.float().square().mean().sqrt()).to(words)
        for length in (words.shape[1], history)
    )
    marker = reader.embed_tokens(reader.marker).expand(2, -1, -1)
    after = [marker] if reader.readout == "response" else []
    positions = sorted({0, history // 2, history - 1})
    states = reader(tokens, torch.tensor([positions, positions]))
    expected, others = (
        torch.stack([_plain_state(reader, before, tokens[:, : end + 1], *after) for end in positions], 1)
        for before in (words, other_words)
    )
    effect = torch.maximum((expected - others).norm(), SMALLEST_EFFECT * expected.norm())
    return float((states - expected).norm() / effect)


def _plain_state(reader: PromptedBackbone, *parts: Tensor) -> Tensor:
    """Return the last state, [2, h], of the model's own pass over the sequence of `parts`."""
    return reader.decoder(inputs_embeds=torch.cat(parts, 1), use_cache=False).last_hidden_state[:, -1].float()
