import numpy as np
import pytest
import torch

from sidflow.semantic_ids.refinement import MAX_PARTNERS, colliding_pairs, distinct_rows, resolve_collisions
from sidflow.semantic_ids.residual_quantizer import ResidualQuantizer


def near_duplicates(n=200, copies=30, d=16, apart=0.1, seed=0):
    """Rows of which some have a twin that differs by far less than any two others."""
    rng = np.random.default_rng(seed)
    one = rng.normal(size=(n, d))
    twins = one[:copies] + apart * rng.normal(size=(copies, d))
    return torch.from_numpy(np.concatenate([one, twins]).astype(np.float32))


def quantizer(z, counts=(8, 16, 16)):
    made = ResidualQuantizer(list(counts), z.shape[1]).eval()
    made.initialise_with_kmeans(z, torch.Generator().manual_seed(0))
    return made


def count_colliding(one, z):
    codes = one(z).codes
    _, label, size = codes.unique(dim=0, return_inverse=True, return_counts=True)
    return int((size[label] > 1).sum())


def test_near_duplicates_get_different_codes_and_distances_hardly_change():
    z = near_duplicates()
    one = quantizer(z)
    before, error = count_colliding(one, z), (one(z).values - z).square().mean().item()
    first = one.codebooks[0].clone()
    left = resolve_collisions(one, z)
    assert left == count_colliding(one, z) < 0.1 * before
    assert (one(z).values - z).square().mean().item() < 1.3 * error
    assert torch.equal(one.codebooks[0], first)  # only the last one moves


def test_same_seed_same_bytes():
    made = []
    for _ in range(2):
        z = near_duplicates()
        one = quantizer(z)
        resolve_collisions(one, z)
        made.append([codebook.detach().numpy().tobytes() for codebook in one.codebooks])
    assert made[0] == made[1]


@pytest.mark.parametrize("z", [torch.eye(8), torch.ones(6, 3), torch.zeros(1, 3)])
def test_nothing_moves_where_no_collision_can_be_resolved(z):
    one = ResidualQuantizer([8, 8], z.shape[1]).eval()
    with torch.no_grad():
        one.codebooks[0].copy_(torch.eye(8) if z.shape[1] == 8 else z[:1].expand(8, -1))
    before = [codebook.clone() for codebook in one.codebooks]
    resolve_collisions(one, distinct_rows(z))
    assert all(torch.equal(a, b) for a, b in zip(before, one.codebooks, strict=True))


def test_pairs_are_those_of_equal_codes():
    codes = np.array([[1, 1], [0, 0], [1, 1], [2, 2], [1, 1]])
    assert {tuple(sorted(pair)) for pair in colliding_pairs(codes).tolist()} == {(0, 2), (0, 4), (2, 4)}
    assert len(colliding_pairs(np.arange(6).reshape(3, 2))) == 0 == len(colliding_pairs(np.zeros((1, 2))))
    assert colliding_pairs(codes, max_group=2).tolist() == [] and len(colliding_pairs(codes, max_group=3)) == 3
    crowd = colliding_pairs(np.zeros((100, 2)))
    assert len(crowd) == sum(100 - step for step in range(1, MAX_PARTNERS + 1))
    assert len(colliding_pairs(np.zeros((4, 0)))) == 6  # before the first level all are one group


def test_the_first_of_equal_rows():
    rows = torch.tensor([[3.0], [1.0], [3.0], [2.0], [1.0]])
    assert distinct_rows(rows)[:, 0].tolist() == [3, 1, 2]
