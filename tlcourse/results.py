"""Kept results: experiments that need longer than their lesson has. Lesson 01 reads the first.

`make experiments` runs them point by point (a setting and a seed) into ``results/<name>.json``. A lesson loads
them, and the file is refused when the code or the data behind it has changed. The lesson then runs one point again,
drawn by the hash and not by hand, and it must agree with what was kept.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tlcourse.claims import format_measured
from tlcourse.intervals import Scores
from tlcourse.provenance import PACKAGE, code_hash, data_hash, surroundings, write_atomically

__all__ = [
    "Experiment",
    "Kept",
    "RerunDisagrees",
    "StaleResults",
    "code_hash",
    "load_results",
    "make_results",
    "results_folder",
]

Setting = Mapping[str, str | int | float | bool | None]
MINIMUM_SEEDS = 5
# One test image in 500: where every seed scores the same, another processor may still move the score by that.
RELATIVE_FLOOR = 0.002
SAME_SCORE = 1e-6  # of the score: what code that changed must reproduce for older points to be kept


class StaleResults(RuntimeError):
    """The kept results are missing, incomplete, damaged, or older than the code or data behind them."""


class RerunDisagrees(RuntimeError):
    """A point that was run again does not agree with what was kept."""


@dataclass(frozen=True)
class Experiment:
    """An experiment that is made by command and kept.

    Parameters
    ----------
    name
        The file's name under ``results/``: letters, digits and underscores.
    run
        Called as ``run(seed=0, **setting)``, returns a mapping of metrics to numbers. It lives in a module of the
        course. Metrics whose name starts with ``seconds`` are kept, but not compared when a point is run again.
    settings
        The settings, each a mapping of argument names to plain values, no two the same.
    seeds
        At least 5; every setting is run with each, so that they pair.
    data
        Roles of the embedded packages that it reads, see `tlcourse.sources`.
    """

    name: str
    run: Callable[..., Mapping[str, float]]
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    data: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"experiment {self.name!r}: the name becomes a file's; use letters, digits, underscores")
        settings, seeds = tuple(dict(setting) for setting in self.settings), tuple(self.seeds)
        if not settings or len({_key(setting) for setting in settings}) != len(settings):
            raise ValueError(f"experiment {self.name!r}: give at least one setting, and none of them twice")
        if len(set(seeds)) != len(seeds) or len(seeds) < MINIMUM_SEEDS:
            raise ValueError(f"experiment {self.name!r}: give at least {MINIMUM_SEEDS} distinct seeds, not {seeds}")
        object.__setattr__(self, "settings", settings)
        object.__setattr__(self, "seeds", seeds)


@dataclass(frozen=True)
class Kept:
    """The kept points of an experiment, complete and fresh. Made by `load_results`."""

    experiment: Experiment
    code: str
    data: str
    made_by: tuple[dict, ...]
    _points: tuple[dict, ...]

    def points(self, **where) -> list[dict]:
        """The points whose setting has these values: dicts of setting, seed, scores; by setting, then by seed."""
        return [point for point in self._points if where.items() <= point["setting"].items()]

    def scores(self, metric: str, **setting) -> Scores:
        """One metric of one setting over all seeds.

        Parameters
        ----------
        metric
            A name that the experiment's function returns.
        setting
            As many of the setting's values as single it out.

        Raises
        ------
        KeyError
            If the values single out no setting or several, or the metric is unknown; the error lists what there is.

        Examples
        --------
        ``kept.scores("auc", strategy="probe", labels=50)``
        """
        fitting = [candidate for candidate in self.experiment.settings if setting.items() <= candidate.items()]
        if len(fitting) != 1:
            shown = fitting or self.experiment.settings
            listed = "\n  ".join(_show(candidate) for candidate in shown)
            raise KeyError(
                f"{self.experiment.name}: {_show(setting) or 'no value'} fits {len(fitting)} settings; "
                f"choose one of\n  {listed}"
            )
        points = [point for point in self._points if point["setting"] == fitting[0]]
        if metric not in points[0]["scores"]:
            raise KeyError(f"{self.experiment.name}: no metric {metric!r}; kept: {', '.join(points[0]['scores'])}")
        values = tuple(point["scores"][metric] for point in points)
        return Scores(values, tuple(point["seed"] for point in points), _show(fitting[0]))

    def drawn(self) -> tuple[dict, int]:
        """The setting and the seed that are run again: drawn by the hash of code, data and name, not by hand."""
        digest = hashlib.sha256(f"{self.code} {self.data} {self.experiment.name}".encode()).hexdigest()
        point = self._points[int(digest, 16) % len(self._points)]
        return point["setting"], point["seed"]

    def rerun(self) -> dict[str, float]:
        """Run the drawn point live and compare it with what was kept; print the outcome.

        Each metric, save those named ``seconds…``, must fall (1) into the 95 % prediction interval of one further run
        of the setting, from all of its kept seeds, and (2) within half the width of the interval of the *other* seeds
        from the value kept for this very seed, so that an altered point cannot hide in the spread it makes itself.

        Returns
        -------
        The scores of the live run.

        Raises
        ------
        RerunDisagrees
            If a metric disagrees; the error names the point, both values and the interval.
        """
        setting, seed = self.drawn()
        live = dict(self.experiment.run(seed=seed, **setting))
        kept = next(p["scores"] for p in self._points if p["setting"] == setting and p["seed"] == seed)
        place = f"{self.experiment.name}, {_show(setting)}, seed {seed}"
        if set(live) != set(kept):
            raise RerunDisagrees(f"{place}: it returned {sorted(live)}, but {sorted(kept)} were kept")
        compared = [metric for metric in kept if not metric.startswith("seconds")]
        rows = []
        for metric in compared:
            low, high = _agreement(self.scores(metric, **setting), seed, live[metric], place, metric)
            rows.append(f"  measured: {metric} {format_measured(live[metric], low, high)}")
        print(f"RUN AGAIN, AGREES: {place}; {len(rows)} metrics inside their kept 95 % prediction intervals")
        print("\n".join(rows))
        return live


def results_folder() -> Path:
    """``results/`` of the clone that this package runs from, else the copy inside the installed package."""
    clone = PACKAGE.parent
    return clone / "results" if (clone / "pyproject.toml").is_file() else PACKAGE / "_results"


def load_results(experiment: Experiment, folder: Path | None = None) -> Kept:
    """Load the kept results of an experiment, complete and fresh, or refuse.

    Parameters
    ----------
    experiment
        From a module in ``tlcourse/experiments``.
    folder
        None: `results_folder`.

    Raises
    ------
    StaleResults
        If the file is missing or damaged, was made by other code or data, lacks a point, or holds one twice or one
        that is not finite. The error names the command that mends it.
    """
    path = (folder or results_folder()) / f"{experiment.name}.json"
    remedy = f"make it with: python -m tlcourse experiments {experiment.name}"
    if not path.is_file():
        raise StaleResults(f"results/{path.name} does not exist; {remedy}")
    kept = _read(path)
    if kept is None:
        raise StaleResults(f"results/{path.name} is damaged or was edited by hand; {remedy}")
    for part, now in _hashes(experiment).items():
        if kept[part] != now:
            raise StaleResults(f"results/{path.name} is stale: the {part} behind it has changed; {remedy}")
    points = _in_order(kept["points"], experiment)
    problem = _problem(points, experiment)
    if problem:
        raise StaleResults(f"results/{path.name}: {problem}; {remedy}")
    declared = {_key(setting): setting for setting in experiment.settings}  # their own order of names, for print
    ordered = tuple({**point, "setting": declared[_key(point["setting"])]} for point in points)
    return Kept(experiment, kept["code"], kept["data"], tuple(kept["made_by"]), ordered)


def make_results(experiment: Experiment, folder: Path | None = None, *, progress: bool = True) -> Kept:
    """Run every point that is not kept yet, and keep each as soon as it is done.

    An interrupted call is taken up by the next one. Points of other data are thrown away. So are points of older code,
    unless one point of each setting, drawn by the new code's hash, is run again and gives the same scores to six
    digits: then the change did not concern this experiment, and the file says under ``carried`` what was compared.

    Parameters
    ----------
    experiment
        What to run.
    folder
        None: `results_folder`.
    progress
        Show a bar.

    Raises
    ------
    ValueError
        If a run returns no scores, or one that is not a finite number; the error names the setting and the seed.
    StaleResults
        If a point of older code, made elsewhere (processor, threads, versions), gives other scores here. Nothing is
        lost: nobody can say whether the code or the place is the reason.
    """
    from tqdm import tqdm

    path = (folder or results_folder()) / f"{experiment.name}.json"
    hashes, here = _hashes(experiment), surroundings()
    kept = _read(path) if path.is_file() else None
    if kept is None or kept["data"] != hashes["data"]:
        kept = {"made_by": [], "points": []}
    made_by, points = list(kept["made_by"]), _usable(kept["points"], experiment)
    carried = kept.get("carried", [])
    changed = bool(points) and kept["code"] != hashes["code"]
    if changed:
        foreign = [{key: made.get(key) for key in here} != here for made in made_by]
        compared = _compared_again(points, experiment, hashes["code"], foreign, progress)
        if compared:
            carried = [*carried, {"from": kept["code"], "to": hashes["code"], "points": len(points), "again": compared}]
        else:
            made_by, points, carried = [], [], []

    def keep() -> None:
        header = {"experiment": experiment.name, "module": experiment.run.__module__, "made_by": made_by, **hashes}
        if carried:
            header["carried"] = carried
        write_atomically(path, _as_text(header, _in_order(points, experiment)))

    if changed or len(points) < len(kept["points"]):
        keep()
    same = (i for i, made in enumerate(made_by) if {key: made.get(key) for key in here} == here)
    maker = next(same, len(made_by))
    done = {(_key(point["setting"]), point["seed"]) for point in points}
    # Seed by seed, so that an interrupted file holds whole comparisons.
    todo = [(s, seed) for seed in experiment.seeds for s in experiment.settings if (_key(s), seed) not in done]
    bar = tqdm(todo, desc=experiment.name, unit="point", disable=not progress)
    for setting, seed in bar:
        bar.set_postfix_str(f"{_show(setting)}, seed {seed}")
        scores = _run(experiment, setting, seed)
        if maker == len(made_by):
            made_by.append({**here, "date": time.strftime("%Y-%m-%d", time.gmtime())})
        points.append({"setting": dict(setting), "seed": seed, "scores": scores, "made_by": maker})
        keep()
    return load_results(experiment, path.parent)


def _run(experiment: Experiment, setting: Setting, seed: int) -> dict[str, float]:
    """The scores of one point, to seven digits."""
    scores = {metric: float(value) for metric, value in experiment.run(seed=seed, **setting).items()}
    unusable = [metric for metric, value in scores.items() if not math.isfinite(value)]
    if not scores or unusable:
        what = f"{unusable} not finite" if scores else "no scores"
        raise ValueError(f"{experiment.name}: {_show(setting)}, seed {seed} gave {what}; nothing was kept of it")
    return {metric: float(f"{value:.7g}") for metric, value in scores.items()}


def _compared_again(points: list[dict], experiment: Experiment, code: str, foreign: list[bool], progress: bool) -> list:
    """Run one point of each setting again; the places compared, or none where one differs. ``foreign``: by maker."""
    from tqdm import tqdm

    drawn = []
    for setting in experiment.settings:
        there = {point["seed"]: point for point in points if _key(point["setting"]) == _key(setting)}
        if there:
            seed = min(there, key=lambda seed: hashlib.sha256(f"{code} {_key(setting)} {seed}".encode()).hexdigest())
            drawn.append((seed, setting, there[seed]))
    drawn.sort(key=lambda point: point[0])  # what points of one seed share, such as a source, is made once
    compared = []
    for seed, setting, point in tqdm(drawn, desc=f"{experiment.name}: code changed, scores too?", disable=not progress):
        place, live, kept = f"{_show(setting)}, seed {seed}", _run(experiment, setting, seed), point["scores"]
        for metric in sorted(live.keys() | kept.keys()):
            same = metric in live and metric in kept and math.isclose(live[metric], kept[metric], rel_tol=SAME_SCORE)
            if same or metric.startswith("seconds"):
                continue
            differs = f"{experiment.name}: {place}: {metric} was {kept.get(metric)}, is {live.get(metric)}"
            if foreign[point["made_by"]]:
                raise StaleResults(
                    f"{differs}. The code has changed, and this is not where it was made (see made_by in the file): "
                    "compare there, or with its threads and instructions (OMP_NUM_THREADS, ATEN_CPU_CAPABILITY, "
                    f"ONEDNN_MAX_CPU_ISA, OPENBLAS_CORETYPE); or delete results/{experiment.name}.json for all anew"
                )
            print(f"{differs}: all anew")
            return []
        compared.append(place)
    return compared


def _hashes(experiment: Experiment) -> dict[str, str]:
    return {"code": code_hash(experiment.run.__module__), "data": data_hash(experiment.data)}


def _agreement(scores: Scores, seed: int, live: float, place: str, metric: str) -> tuple[float, float]:
    """The kept prediction interval, once `live` has been found to agree with it and with the kept value of the seed."""
    kept = scores.values[scores.seeds.index(seed)]
    others = [(v, s) for v, s in zip(scores.values, scores.seeds, strict=True) if s != seed]
    floor = RELATIVE_FLOOR * abs(scores.mean)
    low, high = scores.prediction_interval()
    low, high = min(low, scores.mean - floor), max(high, scores.mean + floor)
    without = Scores(tuple(v for v, _ in others), tuple(s for _, s in others)).prediction_interval()
    reach = max((without[1] - without[0]) / 2, floor)
    if low <= live <= high and abs(live - kept) <= reach:
        return low, high
    raise RerunDisagrees(
        f"{place}: {metric} is {live:.5g} live, but {kept:.5g} was kept for this seed; the kept 95 % prediction "
        f"interval is [{low:.5g}, {high:.5g}] and the other seeds allow {reach:.2g} between two runs of one seed. "
        "If the code is right, make the results again: delete the file and run `make experiments`"
    )


def _problem(points: list[dict], experiment: Experiment) -> str | None:
    wanted = {(_key(setting), seed) for setting in experiment.settings for seed in experiment.seeds}
    there = [(_key(point["setting"]), point["seed"]) for point in points]
    if len(set(there)) != len(there):
        return "a point is there twice"
    if set(there) != wanted:
        missing = len(wanted - set(there))
        return f"{missing} of {len(wanted)} points are missing" if missing else "it holds a point nobody asked for"
    metrics: dict[str, set[str]] = {}
    for point in points:
        place = f"{_show(point['setting'])}, seed {point['seed']}"
        if not _has_scores(point):
            return f"a score of {place} is missing or not finite"
        if metrics.setdefault(_key(point["setting"]), set(point["scores"])) != set(point["scores"]):
            return f"{place} has other metrics than the first seed of its setting"
    return None


def _usable(points: list[dict], experiment: Experiment) -> list[dict]:
    """The points that a new call need not run: asked for, finite, each once."""
    wanted = {(_key(setting), seed) for setting in experiment.settings for seed in experiment.seeds}
    there = {(_key(point["setting"]), point["seed"]): point for point in points}
    return [point for place, point in there.items() if place in wanted and _has_scores(point)]


def _has_scores(point: dict) -> bool:
    return bool(point["scores"]) and all(map(math.isfinite, point["scores"].values()))


def _read(path: Path) -> dict | None:
    """The file, or None where it is not whole: unreadable, or its checksum is not that of its content."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        whole = kept.pop("checksum") == _checksum(kept)
        return kept if whole and {"code", "data", "made_by", "points"} <= set(kept) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _as_text(header: dict, points: list[dict]) -> str:
    """JSON with one line a point, so that a change reads well in a diff."""
    header = {**header, "checksum": _checksum({**header, "points": points})}
    lines = ",\n  ".join(json.dumps(point, sort_keys=True) for point in points)
    return json.dumps(header, indent=1, sort_keys=True)[:-2] + f',\n "points": [\n  {lines}\n ]\n}}\n'


def _checksum(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _in_order(points: list[dict], experiment: Experiment) -> list[dict]:
    places = [(_key(setting), seed) for setting in experiment.settings for seed in experiment.seeds]
    order = {place: index for index, place in enumerate(places)}
    return sorted(points, key=lambda point: order.get((_key(point["setting"]), point["seed"]), len(order)))


def _key(setting: Setting) -> str:
    return json.dumps(dict(setting), sort_keys=True)


def _show(setting: Setting) -> str:
    return ", ".join(f"{name}={value}" for name, value in setting.items())
