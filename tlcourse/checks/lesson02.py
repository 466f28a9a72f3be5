"""Tasks of lesson 02: how far a stage sees, what it says, what was learnt, what is alike, what can be grafted."""

import numpy as np
from scipy import stats

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.lesson02_stages import GRAFT, RECORD
from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["CKA", "EXERCISES", "LEARNT", "SIGHT"]

# 02.1: how far a stage sees ------------------------------------------------------------


def _sides(i: Inputs, *, strides: str = "before") -> list[int]:
    """Pixels in a row that a unit depends on, after each layer."""
    side, step, sides = 1, 1, []
    for kernel, stride in zip(i["kernels"], i["strides"], strict=True):
        if strides == "own":
            step *= stride
        side += (kernel - 1) * step
        if strides == "before":
            step *= stride
        sides.append(side)
    return sides


def _sight(i: Inputs) -> Outputs:
    return {"sides": _sides(i)}


def _sight_without_strides(i: Inputs) -> Outputs:
    return {"sides": _sides(i, strides="none")}


def _sight_own_stride(i: Inputs) -> Outputs:
    return {"sides": _sides(i, strides="own")}


def _sight_last_stride(i: Inputs) -> Outputs:
    steps = [1, *i["strides"][:-1]]
    grown = [(kernel - 1) * step for kernel, step in zip(i["kernels"], steps, strict=True)]
    return {"sides": (1 + np.cumsum(grown)).tolist()}


def _sight_product(i: Inputs) -> Outputs:
    return {"sides": np.cumprod(i["kernels"]).tolist()}


def _sight_sum(i: Inputs) -> Outputs:
    steps = np.cumprod([1, *i["strides"][:-1]])
    return {"sides": np.cumsum(np.array(i["kernels"]) * steps).tolist()}


def _any_layers(rng: np.random.Generator) -> Inputs:
    count = int(rng.integers(3, 6))
    return {
        "kernels": [int(value) for value in rng.choice([1, 3, 5], size=count, p=[0.2, 0.5, 0.3])],
        "strides": [int(value) for value in rng.choice([1, 2], size=count)],
    }


def _draw_layers(rng: np.random.Generator) -> Inputs:
    ways = (_sight, _sight_without_strides, _sight_own_stride, _sight_last_stride, _sight_product, _sight_sum)
    return draw_apart(rng, _any_layers, ways)


def _probe_sight(answer, inputs: Inputs) -> Outputs:
    return {"sides": plain(answer(**inputs), what="what `sides_seen` returned")}


SIGHT = Exercise(
    id="02.1",
    title="How far a stage sees",
    points=3,
    difficulty=2,
    minutes=15,
    entry="sides_seen",
    draw=_draw_layers,
    probe=_probe_sight,
    oracle=_sight,
    aspects=(Aspect("sides", "the side of the square that each layer sees", 1.0, 0.0),),
    misconceptions=(
        Misconception(
            "the strides were left out",
            "Each layer adds kernel - 1 of *its own* steps. After a layer of stride 2, a step to the next unit is two "
            "pixels, after another one four: that is why late stages see so far.",
            wrong=_sight_without_strides,
        ),
        Misconception(
            "a layer's own stride counted too early",
            "A layer looks at the units of the layer *before* it, as far apart as that layer has put them. Its own "
            "stride says how far apart *its* units are, and matters from the next layer on.",
            wrong=_sight_own_stride,
        ),
        Misconception(
            "only the last stride counted",
            "Strides multiply: behind two layers of stride 2, neighbouring units are four pixels apart. You took the "
            "stride of the layer before, and forgot those before that.",
            wrong=_sight_last_stride,
        ),
        Misconception(
            "kernels multiplied",
            "Two layers of 3 x 3 see 5 pixels, not 9: the squares of neighbouring units overlap.",
            wrong=_sight_product,
        ),
        Misconception(
            "kernels added up whole",
            "A kernel of 3 adds two steps, one to each side; the middle one was seen already. A kernel of 1 adds "
            "nothing.",
            wrong=_sight_sum,
        ),
    ),
    hints=(
        "Keep two numbers: how many pixels a unit sees, and how many pixels lie between neighbouring units.",
        "Before the first layer both are 1. A layer makes the first larger by (kernel - 1) * the second; then it "
        "multiplies the second by its stride.",
        "side, step = 1, 1; for kernel, stride in zip(kernels, strides): side += (kernel - 1) * step; step *= stride; "
        "sides.append(side).",
    ),
)

# 02.3: readable is not learnt ------------------------------------------------------------

GUESSING = 0.25  # the accuracy of a guess among the four classes of the statement


def _low(values: np.ndarray, *, ddof: int = 1, quantile: float | None = None) -> np.ndarray:
    """Lower end of the 95 % t-interval of the mean, one for each column."""
    n = len(values)
    factor = stats.t.ppf(0.975, n - 1) if quantile is None else quantile
    return values.mean(axis=0) - factor * values.std(axis=0, ddof=ddof) / np.sqrt(n)


def _gap(i: Inputs) -> np.ndarray:
    return i["trained"] - i["random"]


def _ends(low) -> Outputs:
    return {"low": low, "learnt": [int(stage) for stage in np.flatnonzero(low > 0)]}


def _learnt(i: Inputs) -> Outputs:
    return _ends(_low(_gap(i)))


def _against_chance(i: Inputs) -> Outputs:
    return _ends(_low(i["trained"] - GUESSING))


def _mean_gap(i: Inputs) -> Outputs:
    return _ends(_gap(i).mean(axis=0))


def _unpaired(i: Inputs) -> Outputs:
    n = len(i["trained"])
    spread = np.sqrt((i["trained"].var(axis=0, ddof=1) + i["random"].var(axis=0, ddof=1)) / n)
    return _ends(_gap(i).mean(axis=0) - stats.t.ppf(0.975, 2 * n - 2) * spread)


def _normal_quantile(i: Inputs) -> Outputs:
    return _ends(_low(_gap(i), quantile=1.96))


def _one_sided(i: Inputs) -> Outputs:
    return _ends(_low(_gap(i), quantile=float(stats.t.ppf(0.95, len(i["trained"]) - 1))))


def _spread_of_seeds(i: Inputs) -> Outputs:
    n = len(i["trained"])
    return _ends(_low(_gap(i), quantile=float(stats.t.ppf(0.975, n - 1)) * np.sqrt(n)))


def _by_n(i: Inputs) -> Outputs:
    return _ends(_low(_gap(i), ddof=0))


def _any_readings(rng: np.random.Generator) -> Inputs:
    seeds, count = int(rng.integers(4, 7)), int(rng.integers(3, 5))
    # An easy or a hard draw of images moves both networks alike: that is what pairing takes away.
    draw = 0.05 * rng.normal(size=(seeds, 1))
    level = rng.uniform(0.4, 0.6, size=count)
    gain = rng.choice([-0.05, 0.02, 0.06, 0.2], size=count)
    trained, random = (
        np.round(level + more + draw + 0.03 * rng.normal(size=(seeds, count)), 3).clip(0, 1) for more in (gain, 0)
    )
    return {"trained": trained, "random": random}


_WAYS = (_learnt, _against_chance, _mean_gap, _unpaired, _normal_quantile, _one_sided, _spread_of_seeds, _by_n)


def _draw_readings(rng: np.random.Generator) -> Inputs:
    while True:
        inputs = draw_apart(rng, _any_readings, _WAYS)
        found = _learnt(inputs)
        if 0 < len(found["learnt"]) < len(found["low"]) and np.abs(found["low"]).min() > 1e-3:
            return inputs


def _probe_readings(answer, inputs: Inputs) -> Outputs:
    found = plain(answer(inputs["trained"], inputs["random"]), what="what `lower_ends` returned")
    low = np.asarray(found, dtype=float) if isinstance(found, (list, np.ndarray)) and len(found) else np.zeros(0)
    return {"low": found, "learnt": [int(stage) for stage in np.flatnonzero(low.ravel() > 0)]}


LEARNT = Exercise(
    id="02.3",
    title="Readable is not learnt",
    points=3,
    difficulty=2,
    minutes=15,
    entry="lower_ends",
    draw=_draw_readings,
    probe=_probe_readings,
    oracle=_learnt,
    aspects=(
        Aspect("low", "the lower ends of the intervals", 0.6, 1e-6),
        Aspect("learnt", "the stages at which something was shown to be learnt", 0.4),
    ),
    misconceptions=(
        Misconception(
            "compared with guessing, not with the twin",
            "You took the distance from guessing, 0.25. That says that something can be *read* there; a "
            "random network offers as many numbers, and much can be read from it too. Learnt is what goes beyond it.",
            wrong=lambda i: {"low": _against_chance(i)["low"]},
        ),
        Misconception(
            "a mean without its interval",
            "These are the mean differences. A mean above zero may be the luck of these seeds: subtract half of the "
            "interval's width. What is still above zero then has been shown.",
            wrong=lambda i: {"low": _mean_gap(i)["low"]},
        ),
        Misconception(
            "seeds not paired",
            "You took the spread of the two networks apart. Both were read on the same images in each seed: subtract "
            "first, seed by seed, and an easy or a hard draw falls out. One number a seed is left, and its spread is "
            "the one that counts.",
            wrong=lambda i: {"low": _unpaired(i)["low"]},
        ),
        Misconception(
            "1.96 with a handful of seeds",
            "1.96 is for a spread that is known, or for very many seeds. A spread that was estimated from a handful "
            "needs Student's t, which is larger: 2.78 for five seeds.",
            wrong=lambda i: {"low": _normal_quantile(i)["low"]},
        ),
        Misconception(
            "one tail instead of two",
            "A 95 % interval leaves 2.5 % on either side, so its quantile is that of 0.975; you took 0.95.",
            wrong=lambda i: {"low": _one_sided(i)["low"]},
        ),
        Misconception(
            "the spread of the seeds, not of their mean",
            "You forgot to divide by the root of the number of seeds. The single seeds scatter so far; their mean "
            "scatters less.",
            wrong=lambda i: {"low": _spread_of_seeds(i)["low"]},
        ),
        Misconception(
            "divided by n in the spread",
            "numpy's std divides by n unless told otherwise, and makes a handful of seeds agree better than they do. "
            "The spread of a sample divides by n - 1: ddof=1.",
            wrong=lambda i: {"low": _by_n(i)["low"]},
        ),
    ),
    hints=(
        "One difference for each seed and stage. Then, stage by stage, an interval as in lesson 00.",
        "low = mean - t * s / sqrt(n): n seeds, s their standard deviation with n - 1 in the denominator (ddof=1), t "
        "the 0.975-quantile of Student's t with n - 1 degrees of freedom.",
        "gap = trained - random; n = len(gap); gap.mean(axis=0) - stats.t.ppf(0.975, n - 1) * gap.std(axis=0, ddof=1) "
        "/ np.sqrt(n).",
    ),
)

# 02.4: debiased CKA ------------------------------------------------------------


def _hsic(k: np.ndarray, m: np.ndarray, *, diagonal: bool = False, cross: bool = True) -> float:
    n = len(k)
    if not diagonal:
        k, m = (table - np.diag(np.diag(table)) for table in (k, m))
    crossed = 2 / (n - 2) * (k @ m).sum() if cross else 0.0
    return float(((k * m).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - crossed) / (n * (n - 3)))


def _cka(i: Inputs, hsic=_hsic, *, root: bool = True) -> Outputs:
    k, m = (i[name] @ i[name].T for name in ("x", "y"))
    norm = hsic(k, k) * hsic(m, m)
    return {"cka": float(hsic(k, m) / (np.sqrt(abs(norm)) if root else norm))}


def _biased(i: Inputs) -> Outputs:
    x, y = (i[name] - i[name].mean(axis=0) for name in ("x", "y"))
    return {"cka": float(((x.T @ y) ** 2).sum() / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y))}


def _not_centred(i: Inputs) -> Outputs:
    x, y = i["x"], i["y"]
    return {"cka": float(((x.T @ y) ** 2).sum() / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y))}


def _diagonal(i: Inputs) -> Outputs:
    return _cka(i, lambda k, m: _hsic(k, m, diagonal=True))


def _without_cross(i: Inputs) -> Outputs:
    return _cka(i, lambda k, m: _hsic(k, m, cross=False))


def _hsic_alone(i: Inputs) -> Outputs:
    return {"cka": _hsic(i["x"] @ i["x"].T, i["y"] @ i["y"].T)}


def _without_root(i: Inputs) -> Outputs:
    return _cka(i, root=False)


def _any_features(rng: np.random.Generator) -> Inputs:
    n, p, q = int(rng.integers(6, 10)), int(rng.integers(3, 6)), int(rng.integers(2, 5))
    x = rng.normal(size=(n, p)) + 0.5
    y = x @ rng.normal(size=(p, q)) * rng.uniform(0, 1) + rng.normal(size=(n, q))
    return {"x": np.round(x, 2), "y": np.round(y, 2)}


_CKA_WAYS = (_cka, _biased, _not_centred, _diagonal, _without_cross, _hsic_alone, _without_root)


def _draw_features(rng: np.random.Generator) -> Inputs:
    while True:
        inputs = draw_apart(rng, _any_features, _CKA_WAYS)
        tables = [inputs[name] @ inputs[name].T for name in ("x", "y")]
        if min(_hsic(table, table) for table in tables) > 0.1:  # the ratio is then well conditioned
            return inputs


def _probe_cka(answer, inputs: Inputs) -> Outputs:
    return {"cka": plain(answer(**inputs), what="what `cka` returned")}


CKA = Exercise(
    id="02.4",
    title="A similarity that says zero",
    points=4,
    difficulty=3,
    minutes=20,
    entry="cka",
    draw=_draw_features,
    probe=_probe_cka,
    oracle=_cka,
    aspects=(Aspect("cka", "the debiased CKA", 1.0, 1e-5),),
    misconceptions=(
        Misconception(
            "the biased estimator",
            "{outputs[cka]:.3f} is the CKA of most code, the biased one: it says that strangers are alike when samples "
            "are few. The debiased one is {expected[cka]:.3f}.",
            wrong=_biased,
        ),
        Misconception(
            "the biased estimator, and not even centred",
            "{outputs[cka]:.3f} is the biased value of features that were not centred: what all rows have in common, "
            "their mean, counts as likeness.",
            wrong=_not_centred,
        ),
        Misconception(
            "each picture compared with itself",
            "The diagonals of the two tables are still in: the likeness of each picture to itself, which is large "
            "whatever the features say. They are the source of the bias; set them to 0 first.",
            wrong=_diagonal,
        ),
        Misconception(
            "the third term is missing",
            "The first two terms are right. Without the third, the one with 2 / (n - 2), nothing has been centred.",
            wrong=_without_cross,
        ),
        Misconception(
            "HSIC, not CKA",
            "{outputs[cka]:.3g} is HSIC itself, which grows with the scale of the features. Divide it by the root of "
            "the product of what each table has with itself.",
            wrong=_hsic_alone,
        ),
        Misconception(
            "the root is missing",
            "You divided by the product itself and not by its root. A thing compared with itself must give 1.",
            wrong=_without_root,
        ),
    ),
    hints=(
        "Write a function for HSIC of two tables first. CKA calls it three times.",
        "K = x @ x.T with its diagonal set to 0, L from y likewise. sum(K * L) is a sum over all pairs; the sum "
        "in the third term is (K @ L).sum().",
        "hsic(K, L) = ((K * L).sum() + K.sum() * L.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (K @ L).sum()) / (n * "
        "(n - 3)); return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L)).",
    ),
)

EXERCISES = (SIGHT, RECORD, LEARNT, CKA, GRAFT)
