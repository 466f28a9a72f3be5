"""A value and its interval where there are no seeds to pair: what was resampled is said. Lesson 07 shows them.

`intervals.Scores` is for scores over seeds; this is for one measurement on one sample, such as a distance between two
sets of features or a rank correlation over a handful of candidates.
"""

from dataclasses import dataclass

__all__ = ["Estimate"]


@dataclass(frozen=True, repr=False)
class Estimate:
    """A number with a two-sided interval.

    Attributes
    ----------
    value, low, high
        The estimate and the ends of its interval, in the unit of the measure.
    n
        How many samples, candidates or pairs it comes from: what ``resampled`` names.
    resampled
        What the interval draws anew, such as ``"candidates"``.
    level
        Its nominal coverage.

    Examples
    --------
    >>> Estimate(0.5, 0.1, 0.8, n=12, resampled="candidates")
    Estimate(0.5000 [0.1000, 0.8000], 95 % over n = 12 candidates)
    """

    value: float
    low: float
    high: float
    n: int
    resampled: str
    level: float = 0.95

    def __repr__(self) -> str:
        over = f"{100 * self.level:g} % over n = {self.n} {self.resampled}"
        return f"Estimate({self.value:.4f} [{self.low:.4f}, {self.high:.4f}], {over})"
