import numpy as np
import pytest
import torch

from sidflow.artifacts.semantic_ids import QUANTIZER
from sidflow.core.errors import InputError
from sidflow.core.tensors import Tensors
from sidflow.semantic_ids.assign import assign_ids
from sidflow.semantic_ids.codec import Codec
from sidflow.semantic_ids.equal_rows import group_rows
from sidflow.semantic_ids.fit import (
    QuantizerTask,
    TrainedQuantizer,
    load_frozen_quantizer,
    quantizer_summary,
    train_quantizer,
)
from sidflow.semantic_ids.inputs import ModalityVectors, codes_per_level, normalise
from sidflow.semantic_ids.mm_rq_vae import MMRQVAE, ModalityTensors
from sidflow.semantic_ids.params import QuantizeParams
from sidflow.semantic_ids.residual_quantizer import ResidualQuantizer
from sidflow.training import loop
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.devices import prepare_training

SMALL = {
    "levels": 3,
    "code_dim": 6,
    "hidden": [12],
    "batch_size": 32,
    "passes": 2,
    "loop": {"epochs": 3, "patience": 0, "learning_rate": 1e-3},
}


def modality(n=60, d=8, seed=0, missing=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, d)).astype(np.float32)
    present = np.ones(n, dtype=bool)
    present[:missing] = False
    values[:missing] = 0
    return ModalityVectors(values, present)


def run(modalities, checkpoint=None, **overrides):
    return train_quantizer(
        modalities, QuantizeParams.model_validate({**SMALL, **overrides}), 5, prepare_training(5, 1), checkpoint
    )


def three():
    return {"collaborative": modality(seed=1, missing=5), "text": modality(seed=2, d=10), "image": modality(seed=3)}


def as_bytes(trained):
    return {name: array.tobytes() for name, array in trained.arrays.items()}


@pytest.mark.parametrize("method", ["mm-rq-vae", "rq-vae", "rq-kmeans"])
def test_same_seed_same_bytes_and_codes_of_numpy_are_those_of_torch(method):
    first = run(three(), method=method)
    assert as_bytes(first) == as_bytes(run(three(), method=method))
    quantizer = Tensors(first.arrays, first.metadata)
    for name, one in three().items():
        codec = Codec(quantizer, name)
        found = assign_ids(codec, one.values, one.present)
        assert len(found.items) == one.present.sum() and found.codes.max() < len(codec.codebooks[0])
        x = torch.from_numpy(normalise(one).values[one.present])
        assert np.allclose(codec.normalise(one.values[one.present]), x.numpy(), atol=1e-5)
        z = torch.from_numpy(codec.encode(one.values[one.present])).float()
        quantizer_of_torch = ResidualQuantizer([len(codebook) for codebook in codec.codebooks], z.shape[1])
        for parameter, codebook in zip(quantizer_of_torch.codebooks, codec.codebooks, strict=True):
            parameter.data = torch.from_numpy(codebook).float()
        assert (
            quantizer_of_torch(z).codes.numpy() == codec.quantize(codec.encode(one.values[one.present]))
        ).mean() > 0.99


@pytest.mark.parametrize("method", ["mm-rq-vae", "rq-kmeans"])
def test_principal_components_are_quantized_as_a_modality_of_them_is(method):
    """The widest modality alone has more than eight dimensions."""
    modalities = three()
    rows, present = modalities["text"]
    _, _, directions = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    directions = directions[:8].T * np.sign(directions[:8][np.arange(8), np.abs(directions[:8]).argmax(1)])
    components = ModalityVectors((rows @ directions).astype(np.float32), present)
    trained = run(modalities, method=method, components=8)
    plain = run({**modalities, "text": components}, method=method)
    assert [name for name in trained.arrays if name.startswith("projection.")] == ["projection.text"]
    np.testing.assert_allclose(trained.arrays["projection.text"], directions, atol=1e-5)
    codec, other = (Codec(Tensors(one.arrays, one.metadata), "text") for one in (trained, plain))
    np.testing.assert_allclose(codec.quantized_part(rows), components.values, atol=1e-5)
    np.testing.assert_allclose(codec.mean, other.mean, atol=1e-5)
    codes = assign_ids(codec, codec.quantized_part(rows), present).codes
    assert (codes == assign_ids(other, components.values, present).codes).mean() > 0.9


def test_a_modality_of_lower_rank_has_as_many_components():
    rows, present = modality(d=3)
    wide = ModalityVectors(np.concatenate([rows, rows], 1), present)
    trained = run({"text": wide}, components=5)
    assert trained.arrays["projection.text"].shape == (6, 3)
    directions = trained.arrays["projection.text"]
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-6)


def test_numpy_towers_equal_torch_towers():
    params = QuantizeParams.model_validate({**SMALL, "refit": "all"})
    trained = train_quantizer(three(), params, 5, prepare_training(5, 1))
    contents = {}
    for name, one in three().items():
        values = torch.from_numpy(normalise(one).values)
        contents[name] = ModalityTensors(values, torch.from_numpy(one.present), [8, 8, 8])
    module = MMRQVAE(contents, params)
    for name, one in three().items():
        own = module.autoencoder(name)
        for side, tower in (("encoder", own.encoder), ("decoder", own.decoder)):
            start = f"{side}.{name}."
            state = {
                ("" if key.startswith(f"{start}skip") else "layers.") + key.removeprefix(start): torch.from_numpy(array)
                for key, array in trained.arrays.items()
                if key.startswith(start)
            }
            tower.load_state_dict(state)
        codec = Codec(Tensors(trained.arrays, trained.metadata), name)
        z = own.encoder(contents[name].values)
        assert np.allclose(codec.encode(one.values)[one.present], z.detach().numpy()[one.present], atol=1e-4)
        back = own.decoder(z).detach().numpy() * normalise(one).scale + normalise(one).mean
        assert np.allclose(codec.decode(z.detach().numpy().astype(np.float64)), back, atol=1e-4)


def test_killed_and_resumed_training_ends_in_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path))
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", "0.000001")
    monkeypatch.setenv("SIDFLOW_DEVICE", "cpu")
    whole = run(three(), revive_every=3, revive_below=0.9)
    checkpoint = Checkpoint("quantize", {}, code=[])
    step, taken = loop._Trainer.step, []

    def killed(self, batch, total):
        taken.append(1)
        if len(taken) == 6:
            raise KeyboardInterrupt
        return step(self, batch, total)

    monkeypatch.setattr(loop._Trainer, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        run(three(), checkpoint, revive_every=3, revive_below=0.9)
    monkeypatch.setattr(loop._Trainer, "step", step)
    resumed = run(three(), checkpoint, revive_every=3, revive_below=0.9)
    assert as_bytes(resumed) == as_bytes(whole) and resumed.curves == whole.curves


def test_a_missing_alignment_anchor_is_refused_where_it_is_needed():
    two = three()
    empty_anchor = {**two, "collaborative": modality(seed=1, missing=60)}
    del two["collaborative"]
    for modalities in (two, empty_anchor):
        with pytest.raises(InputError, match=r"alignment_anchor: expected one of .*text.*found 'collaborative'"):
            run(modalities)
    run(two, alignment_anchor="text")
    run(two, alignment="none")
    run(two, method="rq-vae")
    run(two, method="rq-kmeans")
    run({"text": two["text"]})


@torch.no_grad()
def test_under_bf16_validation_sees_the_codes_that_items_get():
    params = QuantizeParams.model_validate(SMALL)
    values = torch.from_numpy(modality(n=200).values)
    module = MMRQVAE({"text": ModalityTensors(values, torch.ones(200, dtype=torch.bool), [4, 4, 4])}, params)
    prepare_training(5, 1)
    module.initialise(torch.Generator().manual_seed(0))
    task = QuantizerTask(module.eval(), params)
    expected = task.validate()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert task.validate() == expected
    module.forward = torch.autocast("cpu", dtype=torch.bfloat16)(module.forward)  # as accelerate does
    assert task.validate() == expected


def test_planted_clusters_get_their_obvious_ids():
    rng = np.random.default_rng(0)
    coarse, fine = rng.normal(size=(4, 8)) * 20, rng.normal(size=(4, 8))
    values = (coarse[:, None, :] + fine[None, :, :]).reshape(16, 8).repeat(5, axis=0)
    values = (values + rng.normal(size=values.shape) * 0.01).astype(np.float32)
    content = {"text": ModalityVectors(values, np.ones(80, dtype=bool))}
    for method in ("mm-rq-vae", "rq-kmeans"):
        trained = run(content, method=method, levels=2, codes=[4, 4], code_dim=8)
        codes = assign_ids(
            Codec(Tensors(trained.arrays, trained.metadata), "text"), values, content["text"].present
        ).codes
        level_0 = codes[:, 0].reshape(4, 20)
        assert (level_0 == level_0[:, :1]).all() and len(np.unique(level_0)) == 4
        level_1 = codes[:, 1].reshape(4, 4, 5)
        assert (level_1 == level_1[:1, :, :1]).all() and len(np.unique(level_1)) == 4


def test_a_modality_that_no_item_has_is_left_out():
    content = {**three(), "audio": ModalityVectors(np.zeros((60, 1), dtype=np.float32), np.zeros(60, dtype=bool))}
    trained = run(content)
    assert trained.metadata["absent"] == ["audio"] and trained.metadata["order"] == ["collaborative", "text", "image"]
    assert as_bytes(trained) == as_bytes(run(three()))


def test_absent_rows_have_no_say():
    content = three()
    changed = content["collaborative"].values.copy()
    changed[:5] = 99
    moved = {**content, "collaborative": ModalityVectors(changed, content["collaborative"].present)}
    assert as_bytes(run(content)) == as_bytes(run(moved))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"text": modality(missing=60)}, "at least one modality"),
        ({"text": modality(), "image": modality(n=59)}, "same items in every modality"),
        (
            {"text": ModalityVectors(np.ones((20, 3), dtype=np.float32), np.ones(20, dtype=bool))},
            "tells no two items apart",
        ),
        ({"text": modality(n=1)}, "tells no two items apart"),
    ],
)
def test_bad_input_is_one_clear_line(content, message):
    with pytest.raises(InputError, match=message):
        run(content)


def test_fewer_items_than_codes():
    with pytest.raises(InputError, match=r"set quantize\.codes to 9 or less"):
        run({"text": modality(n=9)}, codes=16)


@pytest.mark.parametrize(("n", "expected"), [(2, 2), (15, 2), (16, 4), (500, 64), (1023, 128), (1024, 256)])
def test_the_rule_for_codes(n, expected):
    assert codes_per_level(np.arange(2 * n, dtype=np.float32).reshape(n, 2), "auto", 2, "m") == [expected] * 2


def test_distinct_rows_know_that_zero_has_no_sign():
    assert len(group_rows(np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0]], dtype=np.float32)).size) == 2


@pytest.mark.parametrize(
    "overrides",
    [
        {"reconstruction": "mse", "alignment": "mmd"},
        {"reconstruction": "mmd", "alignment": "none", "mmd_estimator": "u_statistic", "mmd_bandwidths": [0.5, 2.0]},
        {"gradient": "rotation", "initialisation": "random", "refit": "last"},
        {"gradient": "per_level", "initialisation": "kmeans", "skip": "none", "sinkhorn": [0.0, 0.0, 0.01]},
        {"codes": [8, 4, 2], "hidden": [], "alignment_anchor": "text"},
        {"loop": {"epochs": 0}},
    ],
)
def test_every_choice_runs_and_says_what_it_was(overrides):
    trained = run(three(), **overrides)
    params = QuantizeParams.model_validate({**SMALL, **overrides})
    summary = quantizer_summary(trained, params, 5, 1, torch.device("cpu"))
    assert summary["params"] == params.model_dump(mode="json") and summary["epochs"] == len(trained.curves)
    assert trained.arrays["codebooks.text"].shape == (3, 8, 6)
    assert all(np.isfinite(array).all() for array in trained.arrays.values())


def test_training_lowers_what_is_wanted():
    curves = run(three(), loop={"epochs": 12, "patience": 0, "learning_rate": 3e-3}, skip="none").curves
    assert curves[-1]["all_objective"] < 0.8 * curves[0]["all_objective"]


def test_alignment_brings_matching_items_together():
    def matching(weight):
        params = QuantizeParams.model_validate(
            {**SMALL, "alignment_weight": weight, "loop": {"epochs": 15, "learning_rate": 3e-3, "patience": 0}}
        )
        trained = train_quantizer(
            {"collaborative": modality(seed=1), "text": modality(seed=2)}, params, 5, prepare_training(5, 1)
        )
        return trained.curves[-1]["alignment"]

    assert matching(1.0) < 0.85 * matching(0.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"codes": [8, 8]}, "for each of the 3 levels; found 2"),
        ({"codes": 1}, ">= 2 per level; found 1"),
        ({"sinkhorn": -1.0}, "`sinkhorn` >= 0; found -1.0"),
        ({"mmd_bandwidths": []}, "at least one; found"),
        ({"hidden": [0]}, "widths >= 1; found"),
    ],
)
def test_params_are_checked(wrong, message):
    with pytest.raises(ValueError, match=message):
        QuantizeParams.model_validate({**SMALL, **wrong})


def test_a_frozen_quantizer_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = run(three())
    path = QUANTIZER.write(trained.arrays, trained.metadata)
    grown = {name: modality(n=70, d=one.values.shape[1], seed=9) for name, one in three().items()}
    taken = load_frozen_quantizer(str(path), grown)
    assert as_bytes(taken) == as_bytes(trained) and taken.metadata == trained.metadata
    again = QUANTIZER.write(taken.arrays, taken.metadata)
    assert as_bytes(TrainedQuantizer(*QUANTIZER.read_from(again), [], -1)) == as_bytes(trained)
    with pytest.raises(InputError, match=r"modality `audio` in 8 dimensions; found none such"):
        load_frozen_quantizer(str(path), {**grown, "audio": modality(n=70)})
    with pytest.raises(InputError, match=r"in 9 dimensions; found 10 dimensions"):
        load_frozen_quantizer(str(path), {**grown, "text": modality(n=70, d=9)})
    path = QUANTIZER.write(*run(three(), components=8)[:2])
    assert load_frozen_quantizer(str(path), grown).arrays["projection.text"].shape == (10, 8)
    with pytest.raises(InputError, match=r"in 8 dimensions; found 10 dimensions"):
        load_frozen_quantizer(str(path), {**grown, "text": modality(n=70, d=8)})


def test_published_methods_neither_refine_nor_resolve_collisions():
    for method in ("rq-vae", "rq-kmeans"):
        plain = run(three(), method=method, refine_steps=0, separate_steps=0)
        assert as_bytes(run(three(), method=method, refine_steps=5, separate_steps=5)) == as_bytes(plain)
    summary = quantizer_summary(
        run(three(), method="rq-vae"), QuantizeParams(method="rq-vae"), 5, 1, torch.device("cpu")
    )
    assert summary["params"]["refine_steps"] == summary["params"]["separate_steps"] == 0


def test_copies_keep_equal_codes_and_constant_dimensions_are_allowed():
    values = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    values[20:] = values[:20]
    values[:, 3] = 7
    trained = run({"text": ModalityVectors(values, np.ones(40, dtype=bool))}, codes=4)
    codes = assign_ids(Codec(Tensors(trained.arrays, trained.metadata), "text"), values, np.ones(40, dtype=bool)).codes
    assert (codes[:20] == codes[20:]).all()
    assert len(np.unique(codes, axis=0)) == 20
