"""A claim is a verdict that a machine can repeat: an effect over seeds against a bar set beforehand. See lesson 00.

`claim` prints to stdout, so that nbval compares the verdict, the bar and the number of seeds on every run; the measured
digits, which differ between processors, stand on a line of their own that is left out of the comparison.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tlcourse.intervals import Scores

__all__ = ["Claim", "claim", "format_measured", "print_table", "read_claims", "verdicts_in"]

Verdict = Literal["supported", "refuted", "inconclusive"]
VERDICTS = ("supported", "refuted", "inconclusive")
MINIMUM_SEEDS = 5

_HEADLINE = re.compile(
    r"^(?:(?P<same>[A-Z]+) as expected|(?P<found>[A-Z]+), but (?P<expected>[a-z]+) was expected): (?P<text>.+)\n"
    r"  bar: (?P<bar>.+); 95 % t-interval over n = (?P<n>\d+) (?:paired )?seeds\n"
    r"  measured: (?P<effect>\S+) \[(?P<low>\S+), (?P<high>\S+)\]$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Claim:
    """What was claimed, expected and found. It has already been printed, so a notebook shows nothing more."""

    text: str
    effect: Scores
    above: float | None
    below: float | None
    expected: Verdict
    found: Verdict

    @property
    def as_expected(self) -> bool:
        return self.found == self.expected

    def __str__(self) -> str:
        low, high = self.effect.interval()
        kind = "paired seeds" if self.effect.paired else "seeds"
        surprise = f", but {self.expected} was expected"
        return (
            f"{self.found.upper()}{' as expected' if self.as_expected else surprise}: {self.text}\n"
            f"  bar: {_bar(self.above, self.below)}; 95 % t-interval over n = {self.effect.n} {kind}\n"
            f"  measured: {format_measured(self.effect.mean, low, high)}"
        )

    def _ipython_display_(self) -> None:
        """As the last value of a cell it adds nothing to what `claim` printed."""


def claim(
    text: str,
    difference: Scores,
    *,
    above: float | None = None,
    below: float | None = None,
    expect: Verdict = "supported",
) -> Claim:
    """Test a sentence against a bar, and print the verdict.

    Supported: the whole 95 % interval lies on the right side of the bar. Refuted: the whole interval lies on the wrong
    side. Inconclusive: the bar lies inside the interval. With both bars: the effect lies between them.

    Parameters
    ----------
    text
        The sentence, on one line.
    difference
        The effect, one value a seed: usually a difference of two `Scores`, in the metric's unit. At least 5 seeds.
    above, below
        The bar, in the unit of `difference`; at least one.
    expect
        The verdict that you expect, written down before the run: "supported", "refuted" or "inconclusive".

    Raises
    ------
    ValueError
        With fewer than 5 seeds, no bar, bars that leave no room, or an unknown `expect`.

    Notes
    -----
    The interval is Student's, over the differences within seeds (Student 1908).

    Examples
    --------
    >>> gain = Scores((0.08, 0.10, 0.07, 0.09, 0.08), seeds=(0, 1, 2, 3, 4), paired=True)
    >>> verdict = claim("A pre-trained backbone gains at least 3 points", gain, above=0.03)
    SUPPORTED as expected: A pre-trained backbone gains at least 3 points
      bar: above +0.03; 95 % t-interval over n = 5 paired seeds
      measured: +0.0840 [+0.0698, +0.0982]
    """
    text = text.strip()
    if not text or "\n" in text:
        raise ValueError(f"a claim is one sentence on one line, not {text!r}")
    if not isinstance(difference, Scores):
        raise TypeError(f"a claim needs Scores over seeds, as over_seeds returns, not {type(difference).__name__}")
    if expect not in VERDICTS:
        raise ValueError(f"expect={expect!r}: use one of {', '.join(VERDICTS)}")
    if difference.n < MINIMUM_SEEDS:
        raise ValueError(f"{difference.n} seeds are too few for a claim: run at least {MINIMUM_SEEDS} ({text!r})")
    if above is None and below is None:
        raise ValueError(f"a claim needs a bar: pass above= or below= ({text!r})")
    if any(bar is not None and not math.isfinite(bar) for bar in (above, below)):
        raise ValueError(f"a bar must be a finite number, not above={above}, below={below} ({text!r})")
    if above is not None and below is not None and above >= below:
        raise ValueError(f"no effect lies above {above} and below {below}: swap the bars ({text!r})")
    verdict = Claim(text, difference, above, below, expect, _judge(difference.interval(), above, below))
    print(verdict)
    return verdict


def format_measured(value: float, low: float, high: float) -> str:
    """``+0.0840 [+0.0698, +0.0982]``: the form that tests/nbval_sanitize.cfg recognises as measured digits."""
    style = "+.4f" if max(abs(value), abs(low), abs(high)) >= 1e-3 else "+.2e"
    return f"{value:{style}} [{low:{style}}, {high:{style}}]"


def verdicts_in(stdout: str) -> Iterator[dict]:
    """The claims printed in a text, as dicts: text, expected, found, bar, effect, low, high, n."""
    for match in _HEADLINE.finditer(stdout):
        found = (match["same"] or match["found"]).lower()
        yield {
            "text": match["text"],
            "expected": match["expected"] or found,
            "found": found,
            "bar": match["bar"],
            "effect": float(match["effect"]),
            "low": float(match["low"]),
            "high": float(match["high"]),
            "n": int(match["n"]),
        }


def read_claims(folder: str | Path | None = None) -> list[dict]:
    """Every claim in the executed notebooks of a folder, in order.

    Parameters
    ----------
    folder
        Where the notebooks are; None: the course's own.

    Returns
    -------
    A list of dicts: lesson (the notebook's name), text, expected, found, bar, effect, low, high, n.

    Raises
    ------
    FileNotFoundError
        If the folder holds no notebook.
    """
    folder = Path(folder) if folder else Path(__file__).resolve().parents[1] / "notebooks"
    notebooks = sorted(folder.glob("*.ipynb"))
    if not notebooks:
        raise FileNotFoundError(
            f"no notebook in {str(folder)!r}: run this in a clone of the course, or name the folder that holds them"
        )
    rows = []
    for path in notebooks:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                if output.get("name") == "stdout":
                    rows += [{"lesson": path.stem, **row} for row in verdicts_in("".join(output["text"]))]
    return rows


def print_table(folder: str | Path | None = None, *, as_json: bool = False) -> None:
    """Print the table of all claims, or the same as JSON."""
    rows = read_claims(folder)
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    head = ("lesson", "expected", "found", "effect", "95 % interval", "n", "claim")
    lines = [head]
    for row in rows:
        measured, _, interval = format_measured(row["effect"], row["low"], row["high"]).partition(" ")
        lines.append(
            (
                row["lesson"][:2],
                row["expected"],
                row["found"],
                measured,
                interval,
                str(row["n"]),
                row["text"],
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    for line in lines:
        print("  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[-1]]))
    tally = ", ".join(f"{sum(row['found'] == verdict for row in rows)} {verdict}" for verdict in VERDICTS)
    print(f"{len(rows)} claims: {tally}; {sum(row['found'] == row['expected'] for row in rows)} as expected")


def _judge(interval: tuple[float, float], above: float | None, below: float | None) -> Verdict:
    low, high = interval
    floor = -math.inf if above is None else above
    ceiling = math.inf if below is None else below
    if low > floor and high < ceiling:
        return "supported"
    return "refuted" if high < floor or low > ceiling else "inconclusive"


def _bar(above: float | None, below: float | None) -> str:
    if above is not None and below is not None:
        return f"between {above:+g} and {below:+g}"
    return f"above {above:+g}" if above is not None else f"below {below:+g}"
