"""The report of `transfer` as one HTML file: figures inside, no script, nothing loaded. Lesson 13 reads one."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tlcourse.advice import Advice
from tlcourse.audit import Audit
from tlcourse.data import Task
from tlcourse.estimates import Estimate
from tlcourse.figures import FAINT, INK, looks, new_axes, png
from tlcourse.html_pages import html_page, html_text
from tlcourse.plots import reliability
from tlcourse.resplits import over_splits
from tlcourse.transfer import Outcome, balanced_interval
from tlcourse.trials import compared

__all__ = ["confusion", "report", "strategies_figure"]

STYLE = """img { max-width: 100%; height: auto }
li { overflow-wrap: anywhere }
.answer { border: 2px solid #3f90da; padding: .6rem }"""
MOST_ITEMS = 200
MOST_CLASSES = 20  # in the figure of mistakes: beyond, its digits cannot be read


def report(outcome: Outcome, task: Task, audit: Audit, *, backbone: str, command: str = "") -> str:
    """The whole report.

    Parameters
    ----------
    backbone
        Its name.
    command
        How to make predictions with the model.
    """
    scores = outcome.scores()
    best = next(iter(compared(scores)))
    figure = strategies_figure(scores)
    parts = [
        f"<h1>Transfer: {html_text(task.provenance.title)}</h1>",
        _answer(outcome, task),
        _section("The strategies", _strategies(outcome), _image(figure, _strategies_alt(scores, best))),
        _section("The model on the test split", _test(outcome, task)),
        _section("The advice", _advice(outcome.advice)),
        _section("The data", _data(task, audit)),
        _section("How it was done", _method(outcome, task, backbone, command)),
    ]
    return html_page(f"Transfer: {task.provenance.title}", "".join(parts), style=STYLE, images=True)


def strategies_figure(scores: dict[str, dict[int, float]]) -> Axes:
    """Balanced accuracy on validation: each split a dot, the mean and its interval, a row a strategy.

    Examples
    --------
    >>> ax = strategies_figure({"probe": {0: 0.7, 1: 0.8}})
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['probe']
    """
    ax = new_axes(height=1.6 + 0.6 * len(scores))
    for row, (name, look) in enumerate(looks(scores).items()):
        values = list(scores[name].values())
        found = over_splits(values)
        ax.plot(values, np.full(len(values), row + 0.25), look.marker, color=look.colour, alpha=0.4, linestyle="none")
        spread = [[found.value - found.low], [found.high - found.value]]
        ax.errorbar(found.value, row, xerr=spread, color=look.colour, marker=look.marker, markersize=8, capsize=4)
    ax.set_yticks(range(len(scores)), list(scores))
    ax.set_ylim(len(scores) - 0.4, -0.5)
    ax.set_xlabel("balanced accuracy on validation; dots are splits, bars 95 % intervals")
    ax.grid(axis="y", visible=False)
    return ax


def confusion(labels: Sequence[int], guesses: Sequence[int], class_names: Sequence[str]) -> Axes:
    """How many samples of each class (rows) were taken for which (columns)."""
    counts = np.zeros((len(class_names), len(class_names)), dtype=int)
    np.add.at(counts, (np.asarray(labels), np.asarray(guesses)), 1)
    side = 2.5 + 0.45 * len(class_names)
    ax = Figure(figsize=(side + 1, side), dpi=100, layout="constrained").subplots()
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.6 else INK
        ax.text(column, row, f"{count}", ha="center", va="center", color=colour)
    ax.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right")
    ax.set_yticks(range(len(class_names)), class_names)
    ax.set(xlabel="predicted", ylabel="true")
    ax.tick_params(color=FAINT, labelcolor=INK)
    return ax


def _answer(outcome: Outcome, task: Task) -> str:
    chance = 1 / len(task.class_names)
    said = (
        f"<strong>{html_text(outcome.chosen)}</strong> was chosen. On the {len(outcome.labels)} samples of the test "
        f"split, which were not used for anything else, its balanced accuracy is "
        f"<strong>{_estimate(outcome.test_interval)}</strong>; guessing gives {chance:.3f}."
    )
    return f'<p class="answer">{said} {_told_apart(outcome)}</p>'


def _told_apart(outcome: Outcome) -> str:
    """Whether the choice is more than a lucky draw of splits."""
    scores = outcome.scores()
    means = compared(scores)
    if len(means) < 2:
        return "No other strategy was tried."
    first, second = list(means)[:2]
    common = sorted(set(scores[first]) & set(scores[second]))
    gap = over_splits([scores[first][seed] - scores[second][seed] for seed in common])
    told = "which is more than" if gap.low > 0 else "which cannot be told from"
    return f"On validation it was ahead of {html_text(second)} by {_estimate(gap)}, {told} chance."


def _strategies(outcome: Outcome) -> str:
    scores = outcome.scores()
    rows = []
    for name, mean in compared(scores).items():
        trials = [trial for trial in outcome.trials if trial.strategy == name]
        seconds = np.mean([trial.seconds for trial in trials])
        estimate = over_splits(list(scores[name].values()))
        cost = next(each for each in outcome.advice.ranking if each.strategy == name)
        note = "chosen" if name == outcome.chosen else ""
        cells = (name, f"{mean:.3f}", _estimate(estimate), f"{seconds:.1f}", f"{cost.memory / 1e6:.0f}", note)
        rows.append([html_text(cell) for cell in cells])
    rows += [[html_text(name), "", f"not tried: {html_text(why)}", "", "", ""] for name, why in outcome.skipped.items()]
    header = ("strategy", "mean on the common splits", "mean of all its splits", "seconds a split", "memory, MB", "")
    return _table(header, rows)


def _strategies_alt(scores: dict[str, dict[int, float]], best: str) -> str:
    said = "; ".join(f"{name}: {_estimate(over_splits(list(values.values())))}" for name, values in scores.items())
    return f"Balanced accuracy on validation with 95 % intervals. {said}. {best} is ahead on the common splits."


def _test(outcome: Outcome, task: Task) -> str:
    labels, probabilities = np.array(outcome.labels), np.array(outcome.probabilities)
    guesses = probabilities.argmax(axis=1)
    rows = []
    for number, name in enumerate(task.class_names):
        right = guesses[labels == number] == number
        recall = balanced_interval([0] * len(right), [0 if hit else 1 for hit in right])
        rows.append([html_text(name), str(len(right)), _estimate(recall)])
    said = ", ".join(
        f"{name.replace('_', ' ')} {outcome.test[name]:.3f}"
        for name in ("accuracy", "auc", "log_loss", "calibration_error")
    )
    parts = [_table(("class", "test samples", "recall"), rows), f"<p>Other scores: {html_text(said)}.</p>"]
    if len(task.class_names) <= MOST_CLASSES:
        alt = f"Table of {len(task.class_names)} classes: rows are true, columns predicted. "
        alt += _worst_mistake(labels, guesses, task.class_names)
        parts.append(_image(confusion(labels, guesses, task.class_names), alt))
    gap = outcome.test["calibration_error"]
    alt = f"How often the model is right against how sure it is, with intervals; the mean gap is {gap:.3f}."
    parts.append(_image(reliability(labels, probabilities), alt))
    return "".join(parts)


def _worst_mistake(labels: np.ndarray, guesses: np.ndarray, class_names: Sequence[str]) -> str:
    wrong = labels != guesses
    if not wrong.any():
        return "There is no mistake."
    pairs, counts = np.unique(np.stack([labels[wrong], guesses[wrong]]), axis=1, return_counts=True)
    true, guess = pairs[:, counts.argmax()]
    return f"The commonest mistake, {counts.max()} times, takes {class_names[true]} for {class_names[guess]}."


def _advice(advice: Advice) -> str:
    pilot = advice.pilot
    rows = []
    for place, each in enumerate(advice.ranking, start=1):
        score = "not tried by the pilot" if each.expected is None else _estimate(each.expected)
        cost = f"{each.seconds:.1f} s, {each.memory / 1e6:.0f} MB"
        rows.append([str(place), html_text(each.strategy), score, cost, html_text("; ".join(each.why))])
    facts = (
        f"LogME {pilot.log_evidence:.3f} and H-score {pilot.h:.3f} compare backbones on this task, and nothing else. "
        f"The probe's C is {pilot.strength:g}."
    )
    header = ("place", "strategy", "expected balanced accuracy", "cost of a training", "why")
    return (
        f"<p>From {html_text(advice.kind)}: probes on features that were computed once, before anything was "
        f"trained.</p>{_table(header, rows)}<p>What would change it:</p>{_list(advice.doubts)}<p>{html_text(facts)}</p>"
    )


def _data(task: Task, audit: Audit) -> str:
    rows = [[html_text(name), str(count)] for name, count in audit.counts.items()]
    sizes = (
        f"{audit.kept} of {audit.given} samples are kept; {len(task.test)} of them are the test split, and the other "
        f"{len(task.train) + len(task.val)} are for training and choosing."
    )
    found = ""
    for finding in audit.findings:
        items = [*finding.items[:MOST_ITEMS]]
        more = len(finding.items) - len(items)
        left = " (left out)" if finding.left_out else ""
        found += f"<li>{html_text(finding.kind)}{left}: {html_text(finding.message)}"
        found += _list([*items, f"and {more} more"] if more else items) + "</li>"
    found = f"<ul>{found}</ul>" if found else "<p>The audit found nothing wrong.</p>"
    return f"<p>{sizes}</p>{_table(('class', 'samples'), rows)}{found}"


def _method(outcome: Outcome, task: Task, backbone: str, command: str) -> str:
    seeds = ", ".join(map(str, outcome.advice.pilot.seeds))
    said = [
        f"Backbone {backbone}; options {task.options}; {len(task.class_names)} classes.",
        "The criterion is balanced accuracy: the mean of the classes' recalls.",
        f"Every strategy was tried on the same splits of what is not the test split, drawn with the seeds {seeds}.",
        "Intervals over splits are corrected t-intervals (Nadeau and Bengio 2003).",
        "Intervals on the test split are over its samples (Wilson 1927; Newcombe 1998).",
        "The saved model was trained by the chosen strategy on the task's training split, seed 0; then the test split "
        "was read, once.",
        f"Pilot, trials and last training took {outcome.seconds:.0f} s of wall time and {outcome.cpu_seconds:.0f} s of "
        "processor time.",
    ]
    return _list(said) + (f"<p>To use the model: <code>{html_text(command)}</code></p>" if command else "")


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{html_text(title)}</h2>{''.join(parts)}</section>\n"


def _image(figure: Axes, alt: str) -> str:
    data = base64.b64encode(png(figure.figure)).decode()
    return f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{data}"></figure>'


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f'<th scope="col">{html_text(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _list(texts: Iterable[str]) -> str:
    items = "".join(f"<li>{html_text(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def _estimate(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
