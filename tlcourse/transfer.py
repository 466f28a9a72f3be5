"""From data to a model: pilot, trial of the strategies within a budget, choice, one look at the test. Lesson 13.

Every strategy is tried on the same splits, chosen by its mean balanced accuracy on validation, and the test split is
read once, by the model that comes out. What is finished is kept in the folder, so that a run that was cut off goes on.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from tlcourse.advice import Advice, Pilot, Suggestion, advise
from tlcourse.backbones import Backbone
from tlcourse.data import Task
from tlcourse.estimates import Estimate
from tlcourse.evaluation import metrics, predict_probabilities
from tlcourse.masked import Masked
from tlcourse.runtime import show_progress
from tlcourse.saved_models import save_trained, write_whole
from tlcourse.trials import PROBE, STRATEGIES, compared, trained, validated

__all__ = ["Outcome", "Trial", "balanced_interval", "transfer"]

FEWEST = 3  # splits: the interval of two is twelve standard deviations wide


@dataclass(frozen=True)
class Trial:
    """One strategy on one split: its balanced accuracy on validation, wall time and processor time."""

    strategy: str
    seed: int
    score: float
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Outcome:
    """What `transfer` found.

    Attributes
    ----------
    trials
        Every one, the pilot's probes included.
    skipped
        Strategy -> why it was not tried, or not to the end.
    chosen
        The strategy of the model that was saved.
    test
        What `evaluation.metrics` returns on the test split.
    test_interval
        Of its balanced accuracy.
    labels, probabilities
        Of the test split, for figures: (n,) and (n, classes).
    seconds, cpu_seconds
        Of everything, summed over the calls that it took.
    """

    advice: Advice
    trials: tuple[Trial, ...]
    skipped: dict[str, str]
    chosen: str
    test: dict[str, float]
    test_interval: Estimate
    labels: tuple[int, ...]
    probabilities: tuple[tuple[float, ...], ...]
    seconds: float
    cpu_seconds: float

    def scores(self) -> dict[str, dict[int, float]]:
        """Strategy -> split -> balanced accuracy."""
        found: dict[str, dict[int, float]] = {}
        for trial in self.trials:
            found.setdefault(trial.strategy, {})[trial.seed] = trial.score
        return found


def transfer(
    task: Task,
    backbone: Backbone,
    out: str | Path,
    *,
    groups: Tensor | None = None,
    seeds: int = 5,
    minutes: float = 2.0,
    progress: bool = True,
) -> Outcome:
    """Try the strategies, choose one, train it, save the model below ``out``, and look at the test split.

    Parameters
    ----------
    groups
        int64, a number for each row that the task's ``index`` names: samples of one group stay in one split.
    seeds
        Splits for the pilot, and at most for each strategy; at least 3.
    minutes
        A bound on pilot, trials and last training together, as far as a timed step foretells: strategies that do not
        fit in with 3 splits are not tried. The pilot and one training always take place.
    progress
        True for a bar.

    Raises
    ------
    ValueError
        If ``out`` holds another run, or ``seeds`` is too small, or the backbone cannot read the task.
    OSError
        If the folder cannot be written.
    """
    if seeds < FEWEST:
        raise ValueError(f"seeds={seeds}: at least {FEWEST} splits are needed to compare strategies")
    out = Path(out)
    (out / "runs").mkdir(parents=True, exist_ok=True)
    _claim(
        out,
        {"data": _data_digest(task, groups), "network": _network_digest(backbone), "seeds": seeds, "minutes": minutes},
    )
    kept = _read(out / "result.json")
    if kept is not None:
        return _outcome(kept)
    work = _Work(task, backbone, out, groups, tuple(range(seeds)), minutes)
    work.tried(progress=progress)
    return work.finished()


def balanced_interval(labels: Sequence[int], guesses: Sequence[int], *, level: float = 0.95) -> Estimate:
    """Balanced accuracy on one test split, with an interval over its samples.

    The recall of each class has its Wilson interval, so that a class without a mistake is not taken for certain; their
    distances from the recalls are squared and added (Newcombe 1998, method 10, here for a mean).

    Examples
    --------
    >>> balanced_interval([0] * 20 + [1] * 20, [0] * 40)
    Estimate(0.5000 [0.4194, 0.5806], 95 % over n = 40 test samples)
    """
    from scipy.stats import norm

    y, guess = np.asarray(labels), np.asarray(guesses)
    n = np.array([(y == label).sum() for label in np.unique(y)])
    recalls = np.array([(guess[y == label] == label).mean() for label in np.unique(y)])
    z = norm.ppf((1 + level) / 2)
    centre = (recalls + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(recalls * (1 - recalls) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    down, up = (np.sqrt(np.square(side).sum()) / len(n) for side in (recalls - centre + half, centre + half - recalls))
    value = float(recalls.mean())
    return Estimate(value, float(value - down), float(value + up), len(y), "test samples", level)


class _Work:
    """What has been done of a run, in memory and in its folder."""

    def __init__(
        self, task: Task, backbone: Backbone, out: Path, groups: Tensor | None, seeds: tuple[int, ...], minutes: float
    ) -> None:
        self.task, self.backbone, self.out, self.groups, self.seeds = task, backbone, out, groups, seeds
        self.budget = 60 * minutes
        self.skipped: dict[str, str] = {}
        self.trials: dict[tuple[str, int], Trial] = {}
        kept = _read(out / "advice.json")
        if kept is None:
            started, on_cpu = time.perf_counter(), time.process_time()
            advice = advise(task, backbone, groups=groups, seeds=seeds)
            kept = {"advice": asdict(advice), "seconds": time.perf_counter() - started}
            kept["cpu_seconds"] = time.process_time() - on_cpu
            _write(out / "advice.json", kept)
        self.advice, self.seconds, self.cpu_seconds = _advice(kept["advice"]), kept["seconds"], kept["cpu_seconds"]
        self.costs = {each.strategy: each.seconds for each in self.advice.ranking}
        shares = kept["seconds"] / len(seeds), kept["cpu_seconds"] / len(seeds)  # the pilot computes all together
        for seed, score in zip(seeds, self.advice.pilot.probe, strict=True):
            self.trials[PROBE, seed] = Trial(PROBE, seed, score, *shares)

    def tried(self, *, progress: bool) -> None:
        """Split after split, each strategy that fits into the budget."""
        from tqdm.auto import tqdm

        names, count = self._fitting()
        tried: dict[str, int] = dict.fromkeys(names, 0)
        with tqdm(total=len(names) * count, desc="trials", disable=not (progress and show_progress())) as bar:
            for seed in self.seeds[:count]:
                if not self._time_for(names, self.seconds):
                    break
                for name in names:
                    bar.set_postfix_str(name)
                    trial = self._trial(name, seed)
                    self.trials[name, seed] = trial
                    self.seconds += trial.seconds
                    self.cpu_seconds += trial.cpu_seconds
                    tried[name] += 1
                    bar.update()
        for name, splits in tried.items():
            if splits < FEWEST:
                self.skipped[name] = f"steps took longer than foretold: {splits} splits fitted, {FEWEST} are needed"
                self.trials = {key: trial for key, trial in self.trials.items() if key[0] != name}

    def finished(self) -> Outcome:
        """Train the chosen strategy, save it, and look at the test split."""
        started, on_cpu = time.perf_counter(), time.process_time()
        scores: dict[str, dict[int, float]] = {}
        for name, seed in sorted(self.trials, key=lambda key: (STRATEGIES.index(key[0]), key[1])):
            scores.setdefault(name, {})[seed] = self.trials[name, seed].score
        chosen = next(iter(compared(scores)))
        model = trained(self.task, self.backbone, chosen, seed=0, strength=self.advice.pilot.strength)
        save_trained(self.out / "model", model, self.task, strategy=chosen)
        probabilities = predict_probabilities(model, self.task.test.inputs)
        labels = self.task.test.labels
        outcome = Outcome(
            advice=self.advice,
            trials=tuple(self.trials.values()),
            skipped=self.skipped,
            chosen=chosen,
            test=metrics(labels, probabilities),
            test_interval=balanced_interval(labels.tolist(), probabilities.argmax(dim=1).tolist()),
            labels=tuple(labels.tolist()),
            probabilities=tuple(map(tuple, probabilities.tolist())),
            seconds=self.seconds + time.perf_counter() - started,
            cpu_seconds=self.cpu_seconds + time.process_time() - on_cpu,
        )
        _write(self.out / "result.json", asdict(outcome))
        return outcome

    def _fitting(self) -> tuple[list[str], int]:
        """As many strategies as fit, the best advised first, and on how many splits."""
        others = [each.strategy for each in self.advice.ranking if each.strategy != PROBE]
        for names in (others, *([name] for name in others)):
            once, last = sum(self.costs[name] for name in names), max(self.costs[name] for name in names)
            count = min(len(self.seeds), int((self.budget - self.seconds - last) / max(once, 1e-9)))
            if count >= FEWEST:
                break
        else:
            names, count = [], 0
        for name in others:
            if name not in names:
                needed = (
                    self.seconds + (FEWEST + 1) * self.costs[name] + sum(FEWEST * self.costs[each] for each in names)
                )
                self.skipped[name] = f"{FEWEST} splits would take it to about {needed / 60:.1f} minutes"
        return names, count

    def _time_for(self, names: list[str], spent: float) -> bool:
        """Whether one more split of each, and the last training, fit; measured times replace what was foretold."""
        known = {name: [trial.seconds for key, trial in self.trials.items() if key[0] == name] for name in names}
        each = {name: float(np.mean(known[name])) if known[name] else self.costs[name] for name in names}
        return spent + sum(each.values()) + max(each.values()) <= self.budget

    def _trial(self, name: str, seed: int) -> Trial:
        path = self.out / "runs" / f"{name.replace(' ', '-')}-{seed}.json"
        kept = _read(path)
        if kept is not None:
            return Trial(**kept)
        started, on_cpu = time.perf_counter(), time.process_time()
        score = validated(self.task, self.backbone, name, seed=seed, groups=self.groups)
        trial = Trial(name, seed, score, time.perf_counter() - started, time.process_time() - on_cpu)
        _write(path, asdict(trial))
        return trial


def _claim(out: Path, run: dict) -> None:
    """Write what the run is of, or see that the folder is of this one."""
    kept = _read(out / "run.json")
    if kept is None:
        _write(out / "run.json", run)
    elif kept != run:
        different = ", ".join(key for key in run if kept.get(key) != run[key])
        raise ValueError(f"{out} holds another run ({different} differ): give another folder, or delete it")


def _data_digest(task: Task, groups: Tensor | None) -> str:
    digest = hashlib.sha256(json.dumps([task.class_names, task.options, task.seed], default=str).encode())
    for split in (task.train, task.val, task.test):
        inputs = split.inputs
        parts = [inputs.values, inputs.mask] if isinstance(inputs, Masked) else [inputs]
        for tensor in (*parts, split.labels, split.index):
            digest.update(tensor.numpy().tobytes())
    if groups is not None:
        digest.update(groups.numpy().tobytes())
    return digest.hexdigest()


def _network_digest(backbone: Backbone) -> str:
    digest = hashlib.sha256(backbone.name.encode())
    for name, tensor in backbone.state_dict().items():
        digest.update(name.encode() + tensor.detach().contiguous().numpy(force=True).tobytes())
    return digest.hexdigest()


def _read(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and the run goes on without it") from error


def _write(path: Path, stored: dict) -> None:
    write_whole(path, json.dumps(stored, indent=1).encode())


def _advice(stored: dict) -> Advice:
    ranking = tuple(
        Suggestion(**{**each, "why": tuple(each["why"]), "expected": _estimate(each["expected"])})
        for each in stored["ranking"]
    )
    pilot = {key: tuple(value) if isinstance(value, list) else value for key, value in stored["pilot"].items()}
    pilot = Pilot(**{**pilot, "a_distance": _estimate(pilot["a_distance"])})
    return Advice(stored["kind"], ranking, tuple(stored["doubts"]), pilot)


def _estimate(stored: dict | None) -> Estimate | None:
    return None if stored is None else Estimate(**stored)


def _outcome(stored: dict) -> Outcome:
    return Outcome(
        **{
            **stored,
            "advice": _advice(stored["advice"]),
            "trials": tuple(Trial(**trial) for trial in stored["trials"]),
            "test_interval": _estimate(stored["test_interval"]),
            "labels": tuple(stored["labels"]),
            "probabilities": tuple(map(tuple, stored["probabilities"])),
        }
    )
