import pytest
import torch

from sidflow.semantic_ids.residual_quantizer import ResidualQuantizer, rotate_gradient


def filled(gradient="straight_through_total", counts=(6, 5, 4), d=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    quantizer = ResidualQuantizer(list(counts), d, gradient).to(dtype)
    with torch.no_grad():
        for level, codebook in enumerate(quantizer.codebooks):
            codebook.copy_(torch.randn(codebook.shape, generator=generator, dtype=dtype) / 2**level)
    return quantizer.eval()


def vectors(b=7, d=3, seed=5, dtype=torch.float64):
    return torch.randn(b, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def chosen(quantizer, codes):
    return [codebook[codes[:, level]] for level, codebook in enumerate(quantizer.codebooks)]


@pytest.mark.parametrize("gradient", ["straight_through_total", "rotation", "per_level"])
def test_value_is_the_sum_of_nearest_code_vectors(gradient):
    quantizer, z = filled(gradient), vectors()
    found = quantizer(z)
    residual = z.clone()
    for level, codebook in enumerate(quantizer.codebooks):
        nearest = torch.cdist(residual, codebook).argmin(1)
        assert torch.equal(found.codes[:, level], nearest)
        residual = residual - codebook[nearest]
    assert torch.allclose(found.values, z - residual)  # z = sum of code vectors + last residual
    assert torch.allclose(found.values, sum(chosen(quantizer, found.codes)))


def relaxed(quantizer, codes, offset, mu):
    """The loss with codes and the straight-through offset held: a smooth function of the encoder's output."""

    def value(z, target):
        total = (z + offset - target).square().mean()
        residual, commitment = z, 0.0
        for vector in chosen(quantizer, codes):
            commitment = commitment + (vector.detach() - residual).square().mean()
            residual = residual - vector.detach()
        return total + mu * commitment / codes.shape[1]

    return value


def encoder_gradients(gradient, mu=0.7):
    torch.manual_seed(0)
    encoder = torch.nn.Linear(4, 3).double()
    x, target = vectors(d=4, seed=1), vectors(seed=2)
    quantizer = filled(gradient)
    found = quantizer(encoder(x))
    ((found.values - target).square().mean() + mu * found.commitment_loss).backward()
    z = encoder(x).detach()
    value = relaxed(quantizer, found.codes, found.values.detach() - z, mu)
    differences = torch.zeros_like(encoder.weight)
    with torch.no_grad():
        for i in range(3):
            for j in range(4):
                for sign in (1, -1):
                    encoder.weight[i, j] += sign * 1e-5
                    differences[i, j] += sign * value(encoder(x), target) / 2e-5
                    encoder.weight[i, j] -= sign * 1e-5
    return encoder.weight.grad, differences


def test_the_encoders_gradient_is_that_of_the_relaxed_loss_at_every_level():
    found, expected = encoder_gradients("straight_through_total")
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_the_published_gradient_starves_the_encoder_after_the_first_level():
    found, expected = encoder_gradients("per_level", mu=3.0)
    assert (found - expected).norm() > 0.1 * expected.norm()
    quantizer, z = filled("per_level"), vectors().requires_grad_()
    only_first = filled("straight_through_total", counts=(6,))
    with torch.no_grad():
        only_first.codebooks[0].copy_(quantizer.codebooks[0])
    quantizer(z).commitment_loss.backward()
    starved = z.grad.clone()
    z.grad = None
    only_first(z).commitment_loss.backward()
    assert torch.allclose(starved, z.grad / 3)  # what the first level alone gives, of three


def test_rotation_turns_and_scales_the_gradient():
    z = torch.tensor([[2.0, 0.0]], requires_grad=True)
    turned = rotate_gradient(z, torch.tensor([[0.0, 3.0]]))
    assert torch.allclose(turned, torch.tensor([[0.0, 3.0]]))
    turned[0, 1].backward()  # along the code vector: comes back along z, scaled by 3 / 2
    assert torch.allclose(z.grad, torch.tensor([[1.5, 0.0]]), atol=1e-6)


@pytest.mark.parametrize("target", [[0.0, 0.0], [-2.0, 0.0]])
def test_rotation_passes_straight_through_where_there_is_none(target):
    z = torch.tensor([[2.0, 0.0]], requires_grad=True)
    turned = rotate_gradient(z, torch.tensor([target]))
    turned.sum().backward()
    assert turned.tolist() == [target] and z.grad.tolist() == [[1.0, 1.0]]


def test_rows_without_a_rotation_are_told_apart_from_those_beside_them():
    z = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 0.0]], requires_grad=True)
    turned = rotate_gradient(z, torch.tensor([[-2.0, 0.0], [0.0, 3.0], [1.0, 0.0]]))
    turned[:, 1].sum().backward()
    torch.testing.assert_close(z.grad, torch.tensor([[0.0, 1.0], [1.5, 0.0], [0.0, 1.0]]), atol=1e-6, rtol=0)


def test_code_vectors_are_pulled_to_residuals_and_not_by_the_commitment():
    quantizer = filled()
    quantizer(vectors().requires_grad_()).commitment_loss.backward()
    assert all(codebook.grad is None or not codebook.grad.any() for codebook in quantizer.codebooks)
    quantizer(vectors()).codebook_loss.backward()
    assert all(codebook.grad is not None and codebook.grad.any() for codebook in quantizer.codebooks)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])  # the latter is what an encoder gives under bf16
def test_dead_codes_move_to_residuals_of_the_batch(kind):
    quantizer = filled(dtype=torch.float32).train()
    with torch.no_grad():
        quantizer.codebooks[0][3:] = 1e6
    z = vectors(64, dtype=torch.float32).to(kind)
    for _ in range(50):
        quantizer(z)
    assert len(quantizer(z).codes[:, 0].unique()) <= 3
    torch.manual_seed(0)
    after = quantizer(z, revive=0.1)
    assert len(after.codes[:, 0].unique()) == 6
    assert quantizer.codebooks[0].abs().max() < 100


def test_sinkhorn_evens_out_the_use_of_a_level():
    quantizer, z = filled(counts=(8,), dtype=torch.float32), vectors(256, dtype=torch.float32) * 0.1 + 1
    nearest = quantizer(z).codes[:, 0].bincount(minlength=8)
    balanced = quantizer(z, epsilons=[0.003], iterations=100).codes[:, 0].bincount(minlength=8)
    assert balanced.min() >= 24 and nearest.max() > 2 * balanced.max()
