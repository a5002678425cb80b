"""The loss of MM-RQ-VAE: each term with its own weight; balanced codes in training alone."""

import pytest
import torch
from torch.nn import functional

from sidflow.semantic_ids.mm_rq_vae import MMRQVAE, ModalityTensors
from sidflow.semantic_ids.params import QuantizeParams
from sidflow.training.losses import info_nce, mmd

N = 40
WEIGHTS = {
    "mse_weight": 0.5,
    "mmd_weight": 3.0,
    "alignment_weight": 0.7,
    "codebook_weight": 2.0,
    "commitment_weight": 0.25,
}
TERMS = {
    "mse_weight": "reconstruction_mse",
    "mmd_weight": "reconstruction_mmd",
    "alignment_weight": "alignment",
    "codebook_weight": "codebook",
    "commitment_weight": "commitment",
}


def module(names=("collaborative", "text"), **changes):
    params = QuantizeParams.model_validate(
        {"levels": 2, "code_dim": 4, "hidden": [8], "reconstruction": "both", "revive_below": 0.0, **WEIGHTS, **changes}
    )
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, width, absent in zip(names, (6, 5), (8, 0), strict=True):
        present = torch.arange(N) % 7 != absent
        values = torch.randn(N, width, generator=generator) * present[:, None]
        tensors[name] = ModalityTensors(values, present, [6, 6])
    torch.manual_seed(0)
    made = MMRQVAE(tensors, params)
    made.initialise(torch.Generator().manual_seed(2))
    return made


def test_modalities_may_have_any_name():
    found = module(names=("collaborative", "values")).eval()(torch.arange(N))
    torch.testing.assert_close(found, module().eval()(torch.arange(N)))


def test_no_checkpoint_keeps_the_data():
    made = module()
    kept = made.autoencoders.state_dict(prefix="autoencoders.")
    assert set(made.state_dict()) == set(kept)


def test_the_loss_is_each_term_times_its_own_weight():
    losses = module().eval()(torch.arange(N))
    assert all(float(losses[term]) != 0 for term in TERMS.values())
    expected = sum(WEIGHTS[weight] * losses[term] for weight, term in TERMS.items())
    torch.testing.assert_close(losses["loss"], expected)
    ranked = sum(WEIGHTS[weight] * losses[TERMS[weight]] for weight in ("mse_weight", "mmd_weight", "alignment_weight"))
    torch.testing.assert_close(module().objective(losses), ranked)


@pytest.mark.parametrize("weight", list(TERMS))
def test_a_weight_counts_its_term_and_no_other(weight):
    rows = torch.arange(N)
    before, after = module().eval()(rows), module(**{weight: WEIGHTS[weight] + 1}).eval()(rows)
    torch.testing.assert_close(after["loss"] - before["loss"], before[TERMS[weight]], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[term], after[term]) for term in TERMS.values())


def test_codebook_loss_moves_codes_and_commitment_loss_moves_the_encoder():
    """Source: van den Oord et al. 2017 (VQ-VAE), Eq. 3: the stop-gradients."""
    codes, encoder = {}, {}
    for term in ("codebook", "commitment"):
        made = module(gradient="per_level")
        made(torch.arange(N))[term].backward()
        own = made.autoencoder("text")
        codes[term] = any(book.grad is not None and book.grad.any() for book in own.quantizer.codebooks)
        encoder[term] = any(p.grad is not None and bool(p.grad.any()) for p in own.encoder.parameters())
    assert codes == {"codebook": True, "commitment": False}
    assert encoder == {"codebook": False, "commitment": True}


def test_every_term_written_out():
    made = module().eval()
    losses = made(torch.arange(N))
    expected = dict.fromkeys(("mse", "mmd", "codebook"), torch.zeros(()))
    sums = {}
    for name in ("collaborative", "text"):
        own, present = made.autoencoder(name), made.present(name)
        x = made.values(name)[present]
        residual = own.encoder(x)
        total = torch.zeros_like(residual)
        for codebook in own.quantizer.codebooks:
            nearest = codebook[torch.cdist(residual, codebook).argmin(1)]
            expected["codebook"] = expected["codebook"] + functional.mse_loss(nearest, residual) / 2
            residual, total = residual - nearest, total + nearest
        decoded = own.decoder(total)
        expected["mse"] = expected["mse"] + functional.mse_loss(decoded, x)
        expected["mmd"] = expected["mmd"] + mmd(decoded, x)
        sums[name] = total
    both = made.present("text") & made.present("collaborative")
    pair = [sums[name][both[made.present(name)]] for name in ("collaborative", "text")]
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(losses["reconstruction_mse"], expected["mse"], **close)
    torch.testing.assert_close(losses["reconstruction_mmd"], expected["mmd"], **close)
    torch.testing.assert_close(losses["codebook"], expected["codebook"], **close)
    torch.testing.assert_close(losses["commitment"], expected["codebook"], **close)  # the same value, other gradients
    torch.testing.assert_close(losses["alignment"], info_nce(*pair), **close)


@pytest.mark.parametrize("alignment", ["infonce", "mmd", "none"])
def test_the_alignment_is_the_one_asked_for_over_items_that_have_both(alignment):
    made = module(alignment=alignment).eval()
    rows = torch.arange(N)
    both = made.present("text") & made.present("collaborative")
    a, b = (
        made.autoencoder(name).quantizer(made.autoencoder(name).encoder(made.values(name)[both])).values
        for name in ("collaborative", "text")
    )
    expected = {"infonce": info_nce(a, b), "mmd": mmd(a, b), "none": torch.zeros(())}[alignment]
    torch.testing.assert_close(made(rows)["alignment"], expected, rtol=1e-4, atol=1e-5)


def test_codes_are_balanced_in_training_and_nearest_outside(monkeypatch):
    made = module(sinkhorn=[0.05, 0.0], sinkhorn_iterations=7)
    quantizer = made.autoencoder("text").quantizer
    given, forward = [], quantizer.forward

    def noted(z, epsilons=None, iterations=50, revive=0.0):
        given.append((epsilons, iterations))
        return forward(z, epsilons, iterations, revive)

    monkeypatch.setattr(quantizer, "forward", noted)
    made.train()(torch.arange(N))
    made.eval()(torch.arange(N))
    (in_training, iterations), (outside, _) = given
    assert (in_training, iterations) == ([0.05, 0.0], 7)
    assert not any(outside or [])


def test_idle_codes_are_revived_in_every_nth_training_step_alone(monkeypatch):
    made = module(revive_below=0.25, revive_every=3)
    quantizer = made.autoencoder("text").quantizer
    shares, forward = [], quantizer.forward

    def recording(z, epsilons=None, iterations=50, revive=0.0):
        shares.append(revive)
        return forward(z, epsilons, iterations, revive)

    monkeypatch.setattr(quantizer, "forward", recording)
    for training in (True, True, False, True, True, True, True):
        made.train(training)(torch.arange(N))
    assert shares == [0, 0, 0, 0.25, 0, 0, 0.25]


def test_codes_in_evaluation_do_not_depend_on_sinkhorn():
    rows = torch.arange(N)
    plain, balanced = module().eval(), module(sinkhorn=0.001).eval()
    assert torch.equal(plain(rows)["loss"], balanced(rows)["loss"])
    assert not torch.equal(plain.train()(rows)["loss"], balanced.train()(rows)["loss"])


@pytest.mark.parametrize(("codebook", "commitment"), [(3.0, 0.0), (0.0, 3.0), (2.0, 0.25)])
def test_the_codebook_weight_moves_codes_and_the_commitment_weight_the_encoder(codebook, commitment):
    """Both losses have the same value, so that their weights differ in the gradients alone."""
    nothing = {"mse_weight": 0.0, "mmd_weight": 0.0, "alignment_weight": 0.0, "gradient": "per_level"}
    gradients = []
    for weights in ((codebook, commitment), (1.0, 1.0)):
        made = module(codebook_weight=weights[0], commitment_weight=weights[1], **nothing)
        made(torch.arange(N))["loss"].backward()
        own = made.autoencoder("text")
        of_encoder = [parameter.grad.flatten() for parameter in own.encoder.parameters() if parameter.grad is not None]
        gradients.append([own.quantizer.codebooks[0].grad, torch.cat(of_encoder)])
    (codes, encoder), (unit_codes, unit_encoder) = gradients
    assert unit_codes.any() and unit_encoder.any()
    torch.testing.assert_close(codes, codebook * unit_codes, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(encoder, commitment * unit_encoder, rtol=1e-4, atol=1e-7)
