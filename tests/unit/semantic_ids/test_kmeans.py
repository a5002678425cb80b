import numpy as np
import pytest
import torch

from sidflow.semantic_ids.kmeans import assign_bounded, cluster_size_bounds, kmeans, squared_distances


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def planted(clusters, each, d=6, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, d)) * 5
    rows = np.repeat(centres, each, axis=0) + rng.normal(size=(clusters * each, d)) * noise
    return torch.from_numpy(centres).float(), torch.from_numpy(rows).float()


def test_autocast_changes_no_distance():
    rows = 1 + 1e-3 * torch.randn(40, 6, generator=generator())  # which bf16 cannot tell apart
    expected = squared_distances(rows, rows[:8])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(squared_distances(rows, rows[:8]), expected)
        assert squared_distances(rows.bfloat16(), rows[:8]).dtype == torch.float32


@pytest.mark.parametrize("balanced", [False, True])
def test_planted_clusters_are_found(balanced):
    centres, rows = planted(8, 20)
    found = kmeans(rows, 8, generator(), balanced=balanced)
    assert squared_distances(centres, found).min(1).values.max() < 0.01
    labels = squared_distances(rows, found).argmin(1).reshape(8, 20)
    assert (labels == labels[:, :1]).all() and len(labels[:, 0].unique()) == 8


def test_no_cluster_is_empty_on_heavy_tails():
    rows = torch.randn(300, 5, generator=generator()) ** 3
    found = kmeans(rows, 64, generator(1))
    assert len(squared_distances(rows, found).argmin(1).unique()) == 64


def test_same_seed_same_bytes_and_another_seed_another_start():
    rows = torch.randn(200, 8, generator=generator())
    first = kmeans(rows, 16, generator(3), balanced=True)
    assert first.numpy().tobytes() == kmeans(rows, 16, generator(3), balanced=True).numpy().tobytes()
    assert not torch.equal(first, kmeans(rows, 16, generator(4), balanced=True))


@pytest.mark.parametrize("seed", range(5))
def test_bounded_assignment_keeps_its_bounds_and_is_stable(seed):
    rows = torch.randn(400, 3, generator=generator(seed)) ** 3
    distances = squared_distances(rows, rows[:20])
    labels = assign_bounded(distances, 0, 25)
    counts = labels.bincount(minlength=20)
    assert counts.max() <= 25 and counts.sum() == 400
    table = distances.double()
    own = table.gather(1, labels[:, None])[:, 0]
    farthest = torch.stack([own[labels == code].max() if counts[code] else torch.tensor(0.0) for code in range(20)])
    for row in range(400):  # a nearer cluster is full of rows that are nearer to it
        for code in torch.nonzero(table[row] < own[row])[:, 0]:
            assert counts[code] == 25 and farthest[code] <= table[row, code]


def test_bounded_assignment_fills_small_clusters():
    rows = torch.randn(400, 3, generator=generator()) ** 3
    smallest, largest = cluster_size_bounds(400, 20)
    counts = assign_bounded(squared_distances(rows, rows[:20]), smallest, largest).bincount(minlength=20)
    assert smallest == 10 and counts.min() >= smallest and counts.max() <= largest


def test_bounded_assignment_fills_the_last_cluster_that_is_nearest_to_nothing():
    distances = squared_distances(torch.arange(6.0)[:, None], torch.tensor([[1.0], [4.0], [1000.0]]))
    assert assign_bounded(distances, 1, 3).tolist() == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize("balanced", [False, True])
def test_equal_rows_give_equal_centres(balanced):
    found = kmeans(torch.ones(10, 3), 4, generator(), balanced=balanced)
    assert torch.isfinite(found).all() and torch.allclose(found, torch.ones(4, 3))


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_starts_are_distinct_rows_while_there_are_any(scale):
    """Two of 60 rows differ from the others, by little or by much."""
    rows = torch.zeros(60, 2)
    rows[7], rows[31] = torch.tensor([scale, 0.0]), torch.tensor([0.0, 2 * scale])
    for seed in range(5):
        found = kmeans(rows, 3, generator(seed), iterations=0)
        assert len(found.unique(dim=0)) == 3
