import numpy as np
import pytest
import torch

from sidflow.semantic_ids import refinement
from sidflow.semantic_ids.kmeans import squared_distances
from sidflow.semantic_ids.refinement import (
    COLLISION_RATE,
    FIRST_TEMPERATURE,
    LAST_TEMPERATURE,
    MARGIN,
    MAX_PARTNERS,
    MAX_PROBABILITY,
    REFINE_RATE,
    _common_code_loss,
    _descend,
    _LastLevel,
    _margin_loss,
    colliding_pairs,
    distinct_rows,
    refine_codebooks,
    resolve_collisions,
    revive_idle_codes,
)
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


def test_codes_after_a_move_are_the_nearest_and_an_undone_move_leaves_no_trace():
    """Small whole numbers, so that many codes are equally near."""
    draw = np.random.default_rng(0)
    residual, codebook = (torch.from_numpy(draw.integers(0, 4, (size, 2))).float() for size in (60, 9))
    last = _LastLevel(residual, codebook, torch.zeros(60, dtype=torch.int64))
    for step in range(40):
        before = [part.clone() for part in (last.codebook, last.distances, last.codes)]
        move = last.move(int(draw.integers(9)), torch.from_numpy(draw.integers(0, 4, 2)).float())
        distances = squared_distances(residual, last.codebook)
        assert torch.equal(last.distances, distances)
        assert torch.equal(last.codes, distances.argmin(1))
        if step % 2:
            last.undo(move)
            after = (last.codebook, last.distances, last.codes)
            assert all(torch.equal(*pair) for pair in zip(after, before, strict=True))


def test_idle_codes_move_to_badly_served_rows_and_empty_no_other_code():
    z = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [9.0]])
    codebook = torch.tensor([[0.1], [5.0], [9.0], [1e3], [1e4]])
    revive_idle_codes([codebook], z)
    code = (z - codebook.T).square().argmin(1)
    assert len(code.unique()) == 5 and codebook.max() < 10
    alone = torch.tensor([[0.0], [1e3]])
    revive_idle_codes([alone], torch.zeros(3, 1))  # nothing is served badly: nothing to move to
    assert alone[1] == 1e3


def test_a_code_that_a_moved_one_has_emptied_moves_too():
    """Both rows of the code at 0 are nearer to the code that moves onto the farther one."""
    z, codebook = torch.tensor([[10.0], [9.0], [-10.0], [-10.5]]), torch.tensor([[0.0], [100.0], [-10.2]])
    revive_idle_codes([codebook], z)
    assert codebook.flatten().tolist() == pytest.approx([9.0, 10.0, -10.2])


def test_codes_that_no_row_is_left_for_stay_idle():
    codebook = torch.linspace(50, 60, 8)[:, None]
    revive_idle_codes([codebook], torch.tensor([[0.1], [0.1], [0.3]]))
    assert len((codebook < 1).nonzero()) >= 1 and codebook.max() == 60


def near_duplicates(n=200, copies=30, d=16, apart=0.1, seed=0):
    """Rows of which some have a twin that differs by far less than any two others."""
    rng = np.random.default_rng(seed)
    one = rng.normal(size=(n, d))
    twins = one[:copies] + apart * rng.normal(size=(copies, d))
    return torch.from_numpy(np.concatenate([one, twins]).astype(np.float32))


def finer_quantizer(z, counts=(8, 16, 16)):
    made = ResidualQuantizer(list(counts), z.shape[1]).eval()
    made.initialise_with_kmeans(z, torch.Generator().manual_seed(0))
    return made


def count_colliding(one, z):
    codes = one(z).codes
    _, label, size = codes.unique(dim=0, return_inverse=True, return_counts=True)
    return int((size[label] > 1).sum())


def test_near_duplicates_get_different_codes_and_distances_hardly_change():
    z = near_duplicates()
    one = finer_quantizer(z)
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
        one = finer_quantizer(z)
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


def test_the_steps_of_a_descent_grow_with_its_input():
    z = rows(60, 4)
    codebook, pairs = quantizer(z, (8,)).codebooks[0].detach(), np.array([[0, 1], [2, 3], [4, 5]])
    one, eightfold = (
        (_descend(factor * z, factor * codebook, pairs, 2, 0.5, True) - factor * codebook).abs().max().item()
        for factor in (1.0, 8.0)
    )
    assert one > 0
    assert eightfold == pytest.approx(8 * one, rel=0.01)


def test_a_pairs_margin_is_of_its_own_best_common_code_and_best_two_different_ones():
    """Rows 0 and 1, and rows 4 and 5, have the nearest code in common, rows 2 and 3 have not."""
    distances = torch.tensor(
        [[1.0, 4.0, 9.0], [2.0, 3.5, 7.0], [1.0, 6.0, 9.0], [8.0, 0.5, 2.0], [10, 14, 20], [11, 13.5, 19]]
    )
    left, right = torch.tensor([0, 2, 1, 4]), torch.tensor([1, 3, 3, 5])
    apart = torch.tensor([min(1 + 3.5, 4 + 2), 1 + 0.5, 2 + 0.5, min(10 + 13.5, 14 + 11)])
    together = torch.tensor([1 + 2.0, 6 + 0.5, 3.5 + 0.5, 10 + 11])
    found = _margin_loss(distances, left, right, 0.5)
    torch.testing.assert_close(found, (apart - together + MARGIN).clamp_min(0))
    assert found[0] > 0 and found[3] > 0 and found[1] == found[2] == 0


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_a_pairs_loss_is_of_the_probability_of_a_common_code(progress):
    distances = torch.tensor([[0.1, 0.12], [0.3, 0.31], [0.0, 2.0], [0.0, 2.0]], dtype=torch.float64)
    temperature = FIRST_TEMPERATURE ** (1 - progress) * LAST_TEMPERATURE**progress
    p = [[1 / sum(np.exp((one - other) / temperature) for other in row) for one in row] for row in distances.numpy()]
    common = [
        min(p[one][0] * p[other][0] + p[one][1] * p[other][1], MAX_PROBABILITY) for one, other in ((0, 1), (2, 3))
    ]
    found = _common_code_loss(distances, torch.tensor([0, 2]), torch.tensor([1, 3]), progress)
    np.testing.assert_allclose(found.numpy(), [-np.log(1 - one) for one in common], rtol=1e-9)


def test_the_temperature_falls_from_the_first_step_of_a_descent_to_its_last(monkeypatch):
    seen = []
    for name in ("_common_code_loss", "_margin_loss"):
        loss = getattr(refinement, name)
        monkeypatch.setattr(refinement, name, lambda *given, loss=loss: seen.append(given[3]) or loss(*given))
    z = rows(30, 4)
    codebook, pairs = quantizer(z, (8,)).codebooks[0].detach(), np.array([[0, 1], [2, 3]])
    for soft in (True, False):
        _descend(z, codebook, pairs, 5, 0.5, soft)
    assert seen == [0, 0.25, 0.5, 0.75, 1] * 2


@pytest.fixture
def steps_taken(monkeypatch):
    """Return a list that gets the learning rates of every step of Adam, and the parameters as they were before it."""
    taken = []

    class Adam(torch.optim.Adam):
        def step(self):
            rates = [group["lr"] for group in self.param_groups]
            taken.append((rates, [group["params"][0].detach().clone() for group in self.param_groups]))
            super().step()

    monkeypatch.setattr(torch.optim, "Adam", Adam)
    return taken


def test_each_level_is_refined_at_a_rate_of_its_own_that_falls_to_a_tenth(steps_taken):
    z = rows(60, 4)
    one = quantizer(z)
    scales, residual = [], z  # root mean square of what each level leaves
    for codebook in one.codebooks:
        residual = residual - codebook.detach()[torch.cdist(residual, codebook.detach()).argmin(1)]
        scales.append(float(residual.square().mean()) ** 0.5)
    refine_codebooks(one, z, 4)
    for step, (rates, _) in enumerate(steps_taken):
        assert rates == pytest.approx([REFINE_RATE * scale * (1 - 0.9 * step / 4) for scale in scales], rel=1e-4)
    assert len(steps_taken) == 4


@pytest.mark.parametrize("soft", [True, False])
def test_a_descent_ends_in_its_last_state_or_in_that_with_the_fewest_common_codes(steps_taken, soft):
    z = near_duplicates(40, 10, 4, 0.3)
    codebook = quantizer(z, (8,)).codebooks[0].detach()
    pairs = np.array([[row, 40 + row] for row in range(10)])
    found = _descend(z, codebook, pairs, 9, 5.0, soft)
    scale = float(torch.cdist(z, codebook).amin(1).square().mean())
    factors = [1.0] * 9 if soft else [1 - 0.9 * step / 8 for step in range(9)]
    rate = COLLISION_RATE * (scale / 4) ** 0.5
    assert [rates[0] for rates, _ in steps_taken] == pytest.approx([rate * factor for factor in factors], rel=1e-4)
    states = [state[0] for _, state in steps_taken]
    codes = [torch.cdist(z, state).argmin(1) for state in states]
    together = [int((one[pairs[:, 0]] == one[pairs[:, 1]]).sum()) for one in codes]
    best = max(step for step, count in enumerate(together) if count == min(together))
    assert len(set(together)) > 1
    torch.testing.assert_close(found, states[-1 if soft else best], rtol=0, atol=0)
