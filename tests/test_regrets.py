import doctest

import pytest

from tlcourse import regrets as module
from tlcourse.intervals import Scores
from tlcourse.regrets import nearest_advice, regret


def cell(probe, last, scratch=(0.0, 0.0)):
    return {
        name: Scores(values, (0, 1))
        for name, values in zip(("probe", "last", "scratch"), (probe, last, scratch), strict=True)
    }


# labels, distance -> scores of two seeds. Few labels: the probe; many and far: the last stages; each by a margin.
GRID = {
    (10, 0.0): cell((0.8, 0.9), (0.6, 0.6)),
    (20, 0.0): cell((0.7, 0.7), (0.6, 0.8)),
    (10, 1.0): cell((0.5, 0.6), (0.4, 0.3)),
    (1000, 0.0): cell((0.8, 0.8), (0.9, 1.0)),
    (1000, 1.0): cell((0.6, 0.6), (0.9, 0.9)),
}
DESCRIBED = {(labels, distance): (len(str(labels)), distance) for labels, distance in GRID}


def test_examples_in_docstrings():
    assert doctest.testmod(module).failed == 0


def test_regret_is_the_mean_over_cells_of_what_the_best_had_more_seed_by_seed():
    found = regret(GRID, lambda place: "probe")
    # (1000, 0.0) loses 0.1 and 0.2, (1000, 1.0) 0.3 twice, (20, 0.0) ties and the first is the best
    assert found.values == pytest.approx((0.4 / 5, 0.5 / 5))
    assert found.seeds == (0, 1)
    best = {place: "last" if place[0] == 1000 else "probe" for place in GRID}
    assert regret(GRID, best.__getitem__).values == (0.0, 0.0)


def test_the_best_is_that_of_the_mean_so_a_seed_may_gain_by_another():
    grid = {"one": cell((0.9, 0.2), (0.5, 0.7))}
    assert regret(grid, lambda place: "probe").values == pytest.approx((-0.4, 0.5))


def test_a_strategy_that_was_not_measured_is_named():
    with pytest.raises(KeyError, match="was advised 'prob'.*probe, last, scratch"):
        regret(GRID, lambda place: "prob")


def test_the_cell_itself_is_never_looked_at():
    for place in GRID:
        changed = {**GRID, place: cell((0.0, 0.0), (0.0, 0.0), (1.0, 1.0))}
        assert nearest_advice(changed, DESCRIBED, place) == nearest_advice(GRID, DESCRIBED, place) != "scratch"


def test_near_cells_decide():
    asked = {place: nearest_advice(GRID, DESCRIBED, place, neighbours=1) for place in GRID}
    assert asked[(10, 0.0)] == "probe"  # asks (20, 0.0), where both are level: the first
    assert asked[(20, 0.0)] == "probe"  # asks (10, 0.0), though here the last stages have a lucky seed


def test_left_out_cells_are_not_asked():
    def unseen(place):
        return place[0] == 1000

    assert nearest_advice(GRID, DESCRIBED, (1000, 1.0), neighbours=1, unseen=unseen) == "probe"
    with pytest.raises(ValueError, match="neighbours=4: 3 cells"):
        nearest_advice(GRID, DESCRIBED, (1000, 1.0), neighbours=4, unseen=unseen)
    with pytest.raises(ValueError, match="neighbours=0"):
        nearest_advice(GRID, DESCRIBED, (1000, 1.0), neighbours=0)


def test_the_unit_of_a_description_does_not_matter_and_a_constant_says_nothing():
    scaled = {place: (1000 * a, b, 7.0) for place, (a, b) in DESCRIBED.items()}
    for place in GRID:
        assert nearest_advice(GRID, scaled, place) == nearest_advice(GRID, DESCRIBED, place)


def test_nearer_cells_count_more():
    grid = {"near": cell((0.6, 0.6), (0.5, 0.5)), "far": cell((0.5, 0.5), (0.63, 0.63)), "asked": cell((0, 0), (0, 0))}
    assert nearest_advice(grid, {"near": (1.0,), "far": (3.0,), "asked": (1.0,)}, "asked", neighbours=2) == "probe"
    assert nearest_advice(grid, {"near": (1.0,), "far": (3.0,), "asked": (3.0,)}, "asked", neighbours=2) == "last"


def test_votes_are_weighed_by_one_over_one_plus_the_euclidean_distance():
    """Two near cells against a far one, by hand: the spread of each number over the seen cells is 1."""
    described = {"right": (1.0, 1.0), "left": (-1.0, -1.0), "asked": (1.0, 1.0)}
    grid = {"right": cell((0.3, 0.3), (0.0, 0.0)), "left": cell((0.0, 0.0), (1.1, 1.1)), "asked": cell((0, 0), (0, 0))}
    # "left" is away by 2 in both numbers, so by the root of 8: 1.1 / 3.83 = 0.287 against 0.3 / 1 for the probe
    assert nearest_advice(grid, described, "asked", neighbours=2) == "probe"
    grid["left"] = cell((0.0, 0.0), (1.2, 1.2))  # 0.313; by steps along the axes it would be 1.2 / 5 = 0.24
    assert nearest_advice(grid, described, "asked", neighbours=2) == "last"


def test_of_cells_equally_near_the_first_of_the_grid_is_asked():
    grid = {f"cell {n}": cell((0.5, 0.5), (n / 40, n / 40)) for n in range(40)} | {"asked": cell((0, 0), (0, 0))}
    described = {name: (0.0,) if name in ("cell 3", "asked") else (1.0,) for name in grid}
    assert nearest_advice(grid, described, "asked", neighbours=2) == "probe"  # "cell 3", then "cell 0"
