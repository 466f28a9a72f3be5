"""Scores and over_seeds, against scipy's own tests and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from tlcourse.intervals import Scores, over_seeds

SEEDS = (0, 1, 2, 3, 4)
BAD_SCORES = [
    # values, seeds, what the error says
    ((), (), "no value"),
    ((0.1, 0.2), (0,), "2 values but 1 seeds"),
    ((0.1, 0.2), (3, 3), "repeat"),
    ((0.1, math.nan), (0, 1), "seed 1 gave nan"),
    ((0.1, math.inf), (0, 7), "seed 7 gave inf"),
    ((0.1,), (0.5,), "whole numbers"),
    ((0.1,), (True,), "whole numbers"),
]
ARITHMETIC = [
    # operation, the values expected from (1, 2, 4)
    (lambda s: s - 1, (0, 1, 3)),
    (lambda s: 1 - s, (0, -1, -3)),
    (lambda s: s + 1, (2, 3, 5)),
    (lambda s: 1 + s, (2, 3, 5)),
    (lambda s: s * 100, (100, 200, 400)),
    (lambda s: 100 * s, (100, 200, 400)),
    (lambda s: s / 2, (0.5, 1, 2)),
    (lambda s: -s, (-1, -2, -4)),
    (lambda s: s / s, (1, 1, 1)),
    (lambda s: s + s, (2, 4, 8)),
    (lambda s: s - np.float32(1), (0, 1, 3)),
]


@pytest.fixture
def draws():
    return np.random.default_rng(0).normal(0.8, 0.02, size=(2, 5))


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_interval_is_students(draws, level):
    scores = Scores(draws[0], SEEDS)
    oracle = stats.t.interval(level, 4, loc=draws[0].mean(), scale=stats.sem(draws[0]))
    np.testing.assert_allclose(scores.interval(level), oracle, rtol=1e-12)
    assert scores.mean == pytest.approx(draws[0].mean())
    assert scores.std == pytest.approx(draws[0].std(ddof=1))


def test_difference_is_the_paired_t_test(draws):
    difference = Scores(draws[0], SEEDS, "a") - Scores(draws[1], SEEDS, "b")
    oracle = stats.ttest_rel(draws[0], draws[1]).confidence_interval()
    np.testing.assert_allclose(difference.interval(), (oracle.low, oracle.high), rtol=1e-10)
    assert difference.paired
    assert difference.name == "a - b"


def test_pairing_is_by_seed_not_by_place():
    shuffled = Scores((30, 10, 20), seeds=(3, 1, 2))
    assert (Scores((1, 2, 3), seeds=(1, 2, 3)) - shuffled).values == (-9, -18, -27)


def test_pairing_refuses_other_seeds():
    with pytest.raises(ValueError, match=r"probe - scratch: seeds \[0, 1\] against \[1, 2\]"):
        Scores((1, 2), (0, 1), "probe") - Scores((1, 2), (1, 2), "scratch")


def test_intervals_cover_as_often_as_they_say():
    # 2,000 draws of 5: the share that holds the truth has a standard error of 0.005, so 0.02 is 4 of them.
    draws = np.random.default_rng(1).normal(size=(2000, 6))
    scores = [Scores(row[:5], SEEDS) for row in draws]
    mean_inside = np.mean([low < 0 < high for low, high in (s.interval() for s in scores)])
    next_inside = np.mean(
        [low < row[5] < high for (low, high), row in zip((s.prediction_interval() for s in scores), draws, strict=True)]
    )
    assert mean_inside == pytest.approx(0.95, abs=0.02)
    assert next_inside == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("operation", "expected"), ARITHMETIC)
def test_arithmetic(operation, expected):
    assert operation(Scores((1, 2, 4), (0, 1, 2))).values == expected


@pytest.mark.parametrize(("values", "seeds", "message"), BAD_SCORES)
def test_bad_scores(values, seeds, message):
    with pytest.raises(ValueError, match=message):
        Scores(values, seeds, "auc")


def test_arithmetic_refuses_what_is_no_number():
    with pytest.raises(TypeError):
        Scores((1.0,), (0,)) - "1"


@pytest.mark.parametrize("call", [lambda s: s.interval(), lambda s: s.std, lambda s: s.prediction_interval()])
def test_one_seed_has_no_interval(call):
    with pytest.raises(ValueError, match="at least 2"):
        call(Scores((0.5,), (0,)))


@pytest.mark.parametrize("level", [0, 1, 95, -0.1])
def test_bad_level(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Scores((0.5, 0.6), (0, 1)).interval(level)


def test_over_seeds_numbers():
    scores = over_seeds(lambda seed: np.float32(seed), iter(SEEDS), name="auc")
    assert scores == Scores((0, 1, 2, 3, 4), SEEDS, "auc")
    assert all(type(value) is float for value in scores.values)


def test_over_seeds_mappings():
    scores = over_seeds(lambda seed: {"auc": seed, "gap": -seed}, (2, 5))
    assert scores == {"auc": Scores((2, 5), (2, 5), "auc"), "gap": Scores((-2, -5), (2, 5), "gap")}


@pytest.mark.parametrize(
    ("function", "seeds", "message"),
    [
        (float, (), "no seeds"),
        (float, (1, 1), "repeat"),
        (float, (0.5,), "whole numbers"),
        (lambda seed: {"ab"[seed]: 1.0}, (0, 1), r"seed 1 returned \['b'\], but seed 0 returned \['a'\]"),
        (lambda seed: math.nan, (0, 1), "seed 0 gave nan"),
    ],
)
def test_over_seeds_errors(function, seeds, message):
    with pytest.raises(ValueError, match=message):
        over_seeds(function, seeds)


def test_over_seeds_does_not_run_repeated_seeds():
    runs = []
    with pytest.raises(ValueError, match="repeat"):
        over_seeds(runs.append, (0, 0))
    assert runs == []


def test_repr_shows_mean_interval_and_n():
    assert repr(Scores((1, 1), (0, 1), "auc")) == "Scores(auc: 1.0000 [1.0000, 1.0000], n = 2)"
    assert repr(Scores((1,), (0,))) == "Scores(1.0000, n = 1)"
