"""Scores over seeds, their differences seed by seed, and t-intervals. Lesson 00 builds it by hand.

A single run is a draw from a lottery: the same setting with another seed gives another score. So every figure in the
course is a mean over seeds with its interval, and two strategies are compared by their difference within each seed.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real

__all__ = ["Scores", "over_seeds"]


@dataclass(frozen=True, repr=False)
class Scores:
    """One score a seed, with the mean and the interval of the mean.

    Subtracting (adding, dividing) two `Scores` pairs them by seed; a number acts on every score.

    Parameters
    ----------
    values
        The scores, one a seed, in the unit of the metric.
    seeds
        The seeds, as many as values and each only once.
    name
        What was measured, for tables and figures.
    paired
        True where the values are differences within a seed.

    Raises
    ------
    ValueError
        If there is no value, a value is not finite, or the seeds do not match the values.

    Examples
    --------
    >>> probe = Scores((0.81, 0.84, 0.83), seeds=(0, 1, 2), name="probe")
    >>> scratch = Scores((0.70, 0.75, 0.71), seeds=(0, 1, 2), name="scratch")
    >>> probe - scratch
    Scores(probe - scratch: 0.1067 [0.0687, 0.1446], n = 3)
    """

    values: tuple[float, ...]
    seeds: tuple[int, ...]
    name: str | None = None
    paired: bool = False

    def __post_init__(self) -> None:
        values, seeds = tuple(float(value) for value in self.values), tuple(self.seeds)
        label = f" of {self.name!r}" if self.name else ""
        if not values:
            raise ValueError(f"scores{label}: no value was given; at least one seed is needed")
        if len(values) != len(seeds):
            raise ValueError(f"scores{label}: {len(values)} values but {len(seeds)} seeds; give one seed a value")
        _check_seeds(seeds)
        for value, seed in zip(values, seeds, strict=True):
            if not math.isfinite(value):
                raise ValueError(f"scores{label}: seed {seed} gave {value}; a mean over it would mean nothing")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "seeds", seeds)

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / self.n

    @property
    def std(self) -> float:
        """Standard deviation between seeds, with n - 1 in the denominator."""
        if self.n < 2:
            raise ValueError("one seed has no spread: run at least 2, and 5 for a claim")
        mean = self.mean
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self.values) / (self.n - 1))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's t-interval of the mean: (low, high).

        Parameters
        ----------
        level
            The coverage, between 0 and 1.

        Raises
        ------
        ValueError
            With fewer than 2 seeds, or a level outside (0, 1).
        """
        half = _t_quantile(level, self.n) * self.std / math.sqrt(self.n)
        return self.mean - half, self.mean + half

    def prediction_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Where one further run of the same setting falls, with this probability: (low, high)."""
        half = _t_quantile(level, self.n) * self.std * math.sqrt(1 + 1 / self.n)
        return self.mean - half, self.mean + half

    def __sub__(self, other: "Scores | Real") -> "Scores":
        return self._combine(other, lambda a, b: a - b, "-")

    def __rsub__(self, other: Real) -> "Scores":
        return (-self)._combine(other, lambda a, b: a + b, "+")

    def __add__(self, other: "Scores | Real") -> "Scores":
        return self._combine(other, lambda a, b: a + b, "+")

    __radd__ = __add__

    def __mul__(self, other: "Scores | Real") -> "Scores":
        return self._combine(other, lambda a, b: a * b, "*")

    __rmul__ = __mul__

    def __truediv__(self, other: "Scores | Real") -> "Scores":
        return self._combine(other, lambda a, b: a / b, "/")

    def __neg__(self) -> "Scores":
        name = f"-({self.name})" if self.name else None
        return Scores(tuple(-value for value in self.values), self.seeds, name, self.paired)

    def __repr__(self) -> str:
        label = f"{self.name}: " if self.name else ""
        if self.n < 2:
            return f"Scores({label}{self.mean:.4f}, n = {self.n})"
        low, high = self.interval()
        return f"Scores({label}{self.mean:.4f} [{low:.4f}, {high:.4f}], n = {self.n})"

    def _combine(self, other, operation: Callable[[float, float], float], sign: str) -> "Scores":
        if isinstance(other, Scores):
            theirs = _paired_values(self, other, sign)
            name = f"{self.name} {sign} {other.name}" if self.name and other.name else None
            values = tuple(operation(a, b) for a, b in zip(self.values, theirs, strict=True))
            return Scores(values, self.seeds, name, paired=True)
        if isinstance(other, Real):
            values = tuple(operation(value, float(other)) for value in self.values)
            return Scores(values, self.seeds, self.name, self.paired)
        return NotImplemented


def over_seeds(
    function: Callable[[int], float | Mapping[str, float]],
    seeds: Iterable[int],
    name: str | None = None,
) -> Scores | dict[str, Scores]:
    """Run an experiment once a seed and collect what it returns.

    Parameters
    ----------
    function
        Takes a seed; returns a number, or a mapping of names to numbers (the same names for every seed).
    seeds
        Distinct whole numbers; the same ones for each strategy that will be compared.
    name
        What is measured, for tables and figures. With a mapping its keys are the names.

    Returns
    -------
    Scores, or a dict of Scores where the function returns a mapping.

    Raises
    ------
    ValueError
        If the seeds repeat or are not whole numbers, or a seed returns other names than the first, or a value that
        is not finite.

    Examples
    --------
    >>> over_seeds(lambda seed: 0.8 + 0.01 * seed, range(5), name="accuracy")
    Scores(accuracy: 0.8200 [0.8004, 0.8396], n = 5)
    """
    seeds = tuple(seeds)
    if not seeds:
        raise ValueError("over_seeds got no seeds; pass for example range(5)")
    _check_seeds(seeds)
    results = [function(seed) for seed in seeds]
    if not isinstance(results[0], Mapping):
        return Scores(tuple(float(result) for result in results), seeds, name)
    names = list(results[0])
    for seed, result in zip(seeds, results, strict=True):
        if set(result) != set(names):
            raise ValueError(f"seed {seed} returned {sorted(result)}, but seed {seeds[0]} returned {sorted(names)}")
    return {key: Scores(tuple(float(result[key]) for result in results), seeds, key) for key in names}


def _check_seeds(seeds: tuple) -> None:
    if not all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds):
        raise ValueError(f"seeds must be whole numbers, not {list(seeds)}")
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds {list(seeds)} repeat: a repeated seed is the same run, not more evidence")


def _paired_values(mine: Scores, other: Scores, sign: str) -> list[float]:
    if set(mine.seeds) != set(other.seeds):
        raise ValueError(
            f"cannot pair {mine.name or 'left'} {sign} {other.name or 'right'}: seeds {list(mine.seeds)} against "
            f"{list(other.seeds)}; run both over the same seeds"
        )
    by_seed = dict(zip(other.seeds, other.values, strict=True))
    return [by_seed[seed] for seed in mine.seeds]


def _t_quantile(level: float, n: int) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}; 0.95 is the course's")
    if n < 2:
        raise ValueError(f"an interval needs at least 2 seeds, not {n}; a claim needs 5")
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, n - 1))
