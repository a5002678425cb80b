"""The small writer as transformers saves it: a CLIP vision tower, a projector and a Llama, with their processor."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from sidflow.core.files import atomic_folder
from sidflow.models.loading import without_library_output
from sidflow.small_writer.params import SizeParams
from sidflow.small_writer.tokenizer import BEGIN, END, PAD, PICTURE

CONTEXT = 2048  # tokens of a question and its answer


def build_model(tokenizer: PreTrainedTokenizerFast, sizes: SizeParams) -> LlavaForConditionalGeneration:
    """Return an untrained model; initial weights come from torch's global generator."""
    ids = tokenizer.get_vocab()
    vision = CLIPVisionConfig(
        hidden_size=sizes.vision_hidden,
        intermediate_size=2 * sizes.vision_hidden,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.heads,
        image_size=sizes.picture_side,
        patch_size=sizes.patch,
        projection_dim=sizes.vision_hidden,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes.hidden,
        intermediate_size=2 * sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=ids[BEGIN],
        eos_token_id=ids[END],
        pad_token_id=ids[PAD],
    )
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_id=ids[PICTURE],  # pyright: ignore[reportCallIssue]
            vision_feature_layer=-1,
            vision_feature_select_strategy="default",
            tie_word_embeddings=True,
        )
    )


def build_processor(tokenizer: PreTrainedTokenizerFast, sizes: SizeParams) -> LlavaProcessor:
    """Return the processor of such a model: pictures at its size, a token for each patch."""
    side = sizes.picture_side
    pictures = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return LlavaProcessor(
        pictures,
        tokenizer,
        patch_size=sizes.patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )


def save_writer(
    folder: Path, model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, sizes: SizeParams
) -> None:
    """Write model, tokenizer and processor as a downloaded model has them; the weights as fp16 safetensors."""
    with atomic_folder(folder) as new, without_library_output():
        model.half().save_pretrained(new)
        build_processor(tokenizer, sizes).save_pretrained(new)
