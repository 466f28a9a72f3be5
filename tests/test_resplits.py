import numpy as np
import pytest
import torch
from scipy.stats import t

from tlcourse import make_task
from tlcourse.resplits import over_splits, resplit


def task_of(labels, groups=None):
    labels = torch.tensor(labels)
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    return make_task("rows", images, labels, class_names=tuple("abc")[: int(labels.max()) + 1], groups=groups)


# Labels, how many samples a group has.
CASES = {"even": ([0, 1] * 40, 1), "rare": ([0] * 60 + [1] * 6, 1), "pairs": ([0, 0, 1, 1, 2, 2] * 30, 2)}


@pytest.mark.parametrize("case", CASES)
def test_validation_is_drawn_anew_and_nothing_else_changes(case):
    labels, of_one = CASES[case]
    groups = torch.arange(len(labels)) // of_one
    task = task_of(labels, groups)
    pool = sorted(torch.cat([task.train.index, task.val.index]).tolist())
    for seed in range(20):
        again = resplit(task, seed=seed, groups=groups)
        assert again.test is task.test and again.seed == seed
        assert sorted(torch.cat([again.train.index, again.val.index]).tolist()) == pool
        for split in (again.train, again.val):
            assert set(split.labels.tolist()) == set(labels)
            assert torch.equal(split.inputs.view(-1).long(), split.index)
            assert torch.equal(split.labels, torch.tensor(labels)[split.index])
        assert not set(groups[again.train.index].tolist()) & set(groups[again.val.index].tolist())


def test_every_class_has_its_share_in_validation():
    again = resplit(task_of([0] * 100 + [1] * 50), seed=0)
    pool = torch.cat([again.train.labels, again.val.labels]).bincount()
    assert again.val.labels.bincount().tolist() == (0.2 * pool).round().long().tolist()


def test_a_class_in_groups_larger_than_its_share_is_in_both_parts():
    labels = [0] * 60 + [1] * 15
    groups = torch.cat([torch.arange(60), 60 + torch.arange(15) // 5])
    for seed in range(10):  # of the rare class, 12 are in the pool: a fifth of them is no group
        again = resplit(task_of(labels), seed=seed, groups=groups)
        assert again.val.labels.bincount().tolist()[1] in (3, 4, 5) and 1 in again.train.labels.tolist()


def test_a_seed_is_a_split():
    task = task_of([0, 1] * 40)
    parts = [resplit(task, seed=seed).val.index.tolist() for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]


def test_too_few_groups_are_named():
    labels = [0, 1] * 20
    task, groups = task_of(labels), torch.tensor(labels)  # in the pool, each class is one group
    with pytest.raises(ValueError, match="class 'a' of task 'rows' has too few groups"):
        resplit(task, seed=0, groups=groups)


@pytest.mark.parametrize("share", [0, 1, -0.1, 2])
def test_the_share_is_checked(share):
    with pytest.raises(ValueError, match=f"share={share}"):
        resplit(task_of([0, 1] * 20), seed=0, share=share)


@pytest.mark.parametrize(("n", "share", "level"), [(2, 0.2, 0.95), (5, 0.2, 0.9), (10, 0.5, 0.95)])
def test_the_interval_is_the_formula(n, share, level):
    scores = np.random.default_rng(n).normal(size=n)
    found = over_splits(scores, share=share, level=level)
    variance = (1 / n + share / (1 - share)) * scores.var(ddof=1)
    assert found.value == pytest.approx(scores.mean()) and (found.n, found.resampled) == (n, "splits")
    assert found.high - found.value == pytest.approx(t.ppf((1 + level) / 2, n - 1) * variance**0.5)
    assert found.high - found.value == pytest.approx(found.value - found.low)


def test_it_covers_where_the_plain_interval_does_not():
    """Means of a normal sample on resampled halves of 20 % of it: what Nadeau and Bengio correct for."""
    rng, covered, plain, rounds = np.random.default_rng(0), 0, 0, 400
    for _ in range(rounds):
        sample = rng.normal(size=100)
        scores = [rng.choice(sample, size=20, replace=False).mean() for _ in range(10)]
        found = over_splits(scores)
        covered += found.low < 0 < found.high
        half = t.ppf(0.975, 9) * np.std(scores, ddof=1) / 10**0.5
        plain += abs(np.mean(scores)) < half
    assert covered / rounds > 0.92 > 0.85 > plain / rounds


def test_one_score_has_no_interval():
    with pytest.raises(ValueError, match="at least 2 splits"):
        over_splits([0.5])
