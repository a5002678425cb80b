"""Causal language models by folder or by hub commit: recorded by file hashes, loaded without remote code."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from sidflow.artifacts.recommenders import MODEL_FOLDER
from sidflow.backbones.params import BackboneParams
from sidflow.core.errors import InputError
from sidflow.core.files import default_permissions, note_read, note_write, project_path

FILE_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")  # no pickles, no code
COMMIT = re.compile(r"[0-9a-f]{40}")
REPO = re.compile(r"[\w.-]+/[\w.-]+")
REMEDY = "point params.yaml:backbone at a causal LM saved by transformers with safetensors weights"


class Backbone(NamedTuple):
    """A loaded causal language model."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file in `folder` that loading reads, by name."""
    paths = sorted({path for pattern in FILE_PATTERNS for path in folder.glob(pattern) if path.is_file()})
    hashes = {}
    for path in paths:
        with path.open("rb") as handle:
            hashes[path.name] = hashlib.file_digest(handle, "sha256").hexdigest()
    return hashes


def record_of_folder(kind: str, folder: Path, **origin: str) -> dict[str, Any]:
    """Return the record (backbone.json) of the model in `folder`.

    Args:
        kind: scratch, path or hub.
        folder: where the model's files are.
        origin: `repo` and `commit`, or `path`, as params name them.

    Raises:
        InputError: the folder has no config, no safetensors weights or no tokenizer, or it holds no causal LM that
            transformers reads without remote code.
    """
    files = file_hashes(folder)
    for requirement, is_met in {
        "config.json": "config.json" in files,
        "weights as *.safetensors": any(name.endswith(".safetensors") for name in files),
        "a tokenizer": any(name.startswith("tokenizer") for name in files),
    }.items():
        if not is_met:
            raise InputError(
                str(folder),
                expected=f"a model folder with {requirement}",
                found=f"files {sorted(files)}" if folder.is_dir() else "no such folder",
                remedy=REMEDY,
            )
    with _load_errors_as_input_errors(folder), without_library_output():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        hidden_size, layers = (
            int(getattr(config.get_text_config(), name)) for name in ("hidden_size", "num_hidden_layers")
        )
        for name in files:
            if name.endswith(".safetensors"):
                with safe_open(folder / name, framework="pt") as weights:
                    weights.keys()
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        raise InputError(
            str(folder), expected="a causal LM", found=f"a model of type {config.model_type}", remedy=REMEDY
        )
    return {
        "kind": kind,
        "repo": origin.get("repo", ""),
        "commit": origin.get("commit", ""),
        "path": origin.get("path", ""),
        "files": files,
        "hidden_size": hidden_size,
        "layers": layers,
        "family": config.model_type,
    }


@contextmanager
def _load_errors_as_input_errors(folder: Path) -> Iterator[None]:
    """Raise as an `InputError` whatever transformers raises for a folder that it cannot read."""
    try:
        yield
    except Exception as error:
        raise InputError(
            str(folder),
            expected="a causal LM and a tokenizer that transformers reads without remote code",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            remedy=REMEDY,
        ) from error


def check_hub_params(params: BackboneParams) -> None:
    """Check that params pin a hub model to a commit.

    Raises:
        InputError: the repository is not `owner/name`, or the commit is not 40 hex digits.
    """
    if not REPO.fullmatch(params.repo):
        raise InputError(
            "params.yaml:backbone.repo",
            expected="owner/name of a hub repository",
            found=repr(params.repo),
            remedy="set backbone.repo, or kind: path",
        )
    if not COMMIT.fullmatch(params.commit):
        raise InputError(
            "params.yaml:backbone.commit",
            expected="the 40 hex digits of a commit (a branch moves, and its results with it)",
            found=repr(params.commit),
            remedy="copy the commit from the repository's history",
        )


def hub_cache() -> str:
    """Return the hub's own cache folder on this machine (HF_HOME moves it)."""
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def hub_folder(repo: str, commit: str) -> Path:
    """Return the folder of a hub commit in the hub's own cache; missing files are downloaded.

    Raises:
        InputError: the commit is neither in the cache nor can be downloaded.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=commit, allow_patterns=list(FILE_PATTERNS), cache_dir=hub_cache()))
    except Exception as error:
        raise InputError(
            f"hub model {repo}",
            expected=f"commit {commit} in the local cache or on the hub",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            remedy="check repo, commit and network (HF_HUB_OFFLINE, HF_ENDPOINT), or use kind: path",
        ) from error


def record_of_pretrained(params: BackboneParams) -> dict[str, Any]:
    """Return the record (backbone.json) of a pretrained backbone, of kind `path` or `hub`.

    Raises:
        InputError: params do not name a model, or its files cannot be read.
    """
    if params.kind == "hub":
        check_hub_params(params)
        return record_of_folder("hub", hub_folder(params.repo, params.commit), repo=params.repo, commit=params.commit)
    if not params.path:
        raise InputError(
            "params.yaml:backbone.path", expected="a model folder", found="nothing", remedy="set backbone.path"
        )
    return record_of_folder("path", Path(params.path).expanduser(), path=params.path)


def backbone_folder(record: Mapping[str, Any]) -> Path:
    """Return the folder of the recorded model on this machine."""
    if record["kind"] == "hub":
        return hub_folder(record["repo"], record["commit"])
    return project_path(MODEL_FOLDER if record["kind"] == "scratch" else Path(record["path"]).expanduser())


def load_backbone(record: Mapping[str, Any], weights: str = "fp32") -> Backbone:
    """Return the recorded model, frozen and in evaluation mode, and its tokenizer.

    Args:
        record: the content of backbone.json.
        weights: fp32, bf16, or nf4 (4 bits through bitsandbytes).

    Raises:
        InputError: a file differs from the record or cannot be read, or nf4 is not available here.
    """
    folder = backbone_folder(record)
    hashes, recorded = file_hashes(folder), record["files"]
    changed = sorted(name for name in {*hashes, *recorded} if hashes.get(name) != recorded.get(name))
    if changed:
        raise InputError(
            str(folder),
            expected="the files that artifacts/backbone/backbone.json records",
            found="other or missing files",
            count=len(changed),
            example=changed[0],
            remedy="put the recorded model back, or `dvc repro -f backbone` to record this one",
        )
    if record["kind"] == "scratch":
        for name in hashes:
            note_read(folder / name)
    options = _nf4_options() if weights == "nf4" else {}
    with _load_errors_as_input_errors(folder), without_library_output():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        model, report = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]  # a pair, with output_loading_info
            folder,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            attn_implementation=_attention_implementation(config),
            dtype=torch.float32 if weights == "fp32" else torch.bfloat16,
            **options,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if report["missing_keys"]:
        raise InputError(
            str(folder),
            expected=f"all weights of a {type(model).__name__}",
            found="some missing, which would be random",
            count=len(report["missing_keys"]),
            example=sorted(report["missing_keys"])[0],
            remedy=REMEDY,
        )
    return Backbone(model.requires_grad_(False).eval(), tokenizer)


def _attention_implementation(config: PretrainedConfig) -> str:
    """Return `sdpa` where the model has it, else `eager` (Gemma 2: its logits are capped before the softmax)."""
    model = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return "sdpa" if getattr(model, "_supports_sdpa", True) else "eager"


def _nf4_options() -> dict[str, Any]:
    """Return the loading options of 4-bit weights.

    Raises:
        InputError: there is no CUDA device or no bitsandbytes.
    """
    if not torch.cuda.is_available() or importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            "params.yaml:finetune.weights",
            expected="nf4 where a CUDA device and bitsandbytes are",
            found="no CUDA device" if not torch.cuda.is_available() else "no bitsandbytes",
            remedy="set finetune.weights to bf16, or run where both are",
        )
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ),
        "device_map": {"": torch.cuda.current_device()},
    }


@contextmanager
def without_library_output() -> Iterator[None]:
    """Load, run, wrap or save a model without progress bars, and without what transformers and PEFT remark on it.

    What makes a model unusable is an error of ours. PEFT asks every model for `is_gradient_checkpointing`, which
    transformers has deprecated. Downloads from the hub stay outside of this context, so that their progress shows.
    """
    bars_enabled, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*deprecated", category=FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars_enabled:
            logging.enable_progress_bar()


def record_written_files(folder: Path) -> None:
    """Record every file in `folder` as written, and give it the permissions that a new file gets.

    Safetensors' own files are readable by their owner alone.
    """
    for path in sorted(folder.iterdir()):
        path.chmod(default_permissions())
        note_write(path)
