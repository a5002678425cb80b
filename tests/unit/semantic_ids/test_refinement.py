import pytest
import torch

from sidflow.semantic_ids.refinement import refine_codebooks, revive_idle_codes
from sidflow.semantic_ids.residual_quantizer import ResidualQuantizer


def rows(n=300, d=6, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def quantizer(z, counts=(8, 8, 8)):
    made = ResidualQuantizer(list(counts), z.shape[1]).eval()
    made.initialise_with_kmeans(z, torch.Generator().manual_seed(0))
    return made


def error(one, z):
    return (one(z).values - z).square().mean().item()


def test_the_sum_comes_nearer_and_every_code_is_used():
    shares = []  # of the error that is left, from eight starts: where one ends depends on the processor's rounding
    for seed in range(8):
        z = rows(seed=seed)
        one = quantizer(z)
        before = error(one, z)
        refine_codebooks(one, z, 100)
        shares.append(error(one, z) / before)
        codes = one(z).codes
        assert [len(codes[:, level].unique()) for level in range(3)] == [8, 8, 8]
    assert max(shares) < 1
    assert sum(shares) / len(shares) < 0.97


def test_same_input_same_bytes():
    made = []
    for _ in range(2):
        one = quantizer(rows())
        refine_codebooks(one, rows(), 20)
        made.append([codebook.detach().numpy().tobytes() for codebook in one.codebooks])
    assert made[0] == made[1]


@pytest.mark.parametrize("z", [rows(8, 3), torch.ones(5, 3), torch.zeros(0, 3)])
def test_what_is_exact_stays(z):
    one = ResidualQuantizer([8], 3).eval()
    with torch.no_grad():
        one.codebooks[0].copy_(rows(8, 3) if len(z) == 8 else torch.ones(8, 3))
    before = one.codebooks[0].clone()
    refine_codebooks(one, z, 10)
    assert torch.equal(one.codebooks[0], before)


def test_idle_codes_move_to_badly_served_rows_and_empty_no_other_code():
    z = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [9.0]])
    codebook = torch.tensor([[0.1], [5.0], [9.0], [1e3], [1e4]])
    revive_idle_codes([codebook], z)
    code = (z - codebook.T).square().argmin(1)
    assert len(code.unique()) == 5 and codebook.max() < 10
    alone = torch.tensor([[0.0], [1e3]])
    revive_idle_codes([alone], torch.zeros(3, 1))  # nothing is served badly: nothing to move to
    assert alone[1] == 1e3
