# %%
import matplotlib.pyplot as plt
import numpy as np

from tlcourse import Scores, claim, kendall, load_results, plots
from tlcourse.experiments.lesson07_ranking import FORETOLD, TUNED_ON_CELLS, TUNED_ON_DIGITS
from tlcourse.experiments.ranking import CLASSIFIERS, CUTS, EPOCHS, LABELS, SOURCES, TRUTH, UNTRAINED, WHOLE

# %% [markdown]
# ## Which network, before anything is trained?
#
# **The question: can a formula rank networks by what they make of a few labelled samples?**
#
# LogME, LEEP, NCE and the H-score answer in seconds. LogME and the H-score read *features*, and take any network. LEEP
# and NCE read what the *source's own classifier* says of the target's samples: a network that has been cut, or was
# never trained, has no such classifier, and they have nothing to say about it.
#
# So there are two lists. {{ len(CUTS + UNTRAINED + SOURCES) }} candidates in all: EfficientNet-Lite0 cut after each of
# its stages, each cut ending in a mean over space; two networks that were never trained; and
# {{ len(SOURCES) }} small networks, trained here on 8 x 8 digits of two, five or ten classes, on worlds at three
# distances, and on one of shapes. And {{ len(CLASSIFIERS) }} of these that still have the classifier of their source,
# Lite0 with ImageNet's among them. Targets: defects of solar cells at 64 px and handwritten digits at 28 px,
# {{ LABELS }} labels each.
#
# What comes of a candidate is asked in two ways, both on the test split: a **probe** on the frozen features, and a
# **fine-tune** of everything in a candidate, {{ EPOCHS["digits"] }} passes over the digits, with one rate for all
# (features are standardised before the new head, for cuts put out numbers of very different size). On cells, where a
# fine-tune takes several times as long, only the cuts are tuned, in {{ EPOCHS["solar"] }} passes. The runs are kept
# (`make experiments NAME=ranking_foretold`, `ranking_digits`, `ranking_cells`).

# %%
foretold = load_results(FORETOLD)
tuned = {"solar": load_results(TUNED_ON_CELLS), "digits": load_results(TUNED_ON_DIGITS)}
ALL = (*CUTS, *UNTRAINED, *SOURCES)


def of(metric, target, name):
    return (tuned[target] if metric == "fine_tuned" else foretold).scores(metric, name=name, target=target)


def over(metric, target, names):
    """Candidates down, seeds across."""
    return np.array([of(metric, target, name).values for name in names])


def tau(ranking, found, target, names=ALL):
    """Kendall's tau of a ranking with what came of it, seed by seed."""
    pairs = zip(over(ranking, target, names).T, over(found, target, names).T, strict=True)
    return Scores(tuple(kendall(a, b).value for a, b in pairs), FORETOLD.seeds, f"{ranking}, {target}")


def gained_by_choosing(metric, target, names=CUTS):
    """Fine-tuned score of the candidate that a metric puts first, less that of the whole network."""
    found, first = over("fine_tuned", target, names), over(metric, target, names).argmax(axis=0)
    chosen = found[first, np.arange(found.shape[1])]
    return Scores(tuple(chosen - found[names.index(WHOLE)]), FORETOLD.seeds, f"first by {metric}", paired=True)


# %% [markdown]
# Kendall's tau counts pairs of candidates: `1` if the formula has every pair in the order in which the pair came out,
# `0` if it does no better than a guess. Say first: how high will LogME's be for the probe? And for the fine-tune?
#
# Written down before the runs, for cells and digits alike, unless it is said:
#
# - LogME's tau with the **probe** is **above `0.3`** over all candidates;
# - so it is with the **fine-tune** over the cuts of one network; over all candidates we expect it **below `0.3`** on
#   digits: a formula that reads frozen features cannot know how far a network will move;
# - LEEP's tau with the probe is **above `0.3`** over those that have a classifier;
# - a **pilot**, the validation score of a cheap probe, ranks what the probe will score on the test split better than
#   LogME: its tau is higher, the difference **above `0`**;
# - the cut that LogME puts first fine-tunes better than the whole network: **above `0`** on cells, **above `0.1`** on
#   digits, whose 28 pixels leave the last stages a map of one.

# %%
for target in TRUTH:
    claim(f"{target}: LogME and probe agree, tau above 0.3", tau("logme", "probe", target), above=0.3)
for target in TRUTH:
    of_cuts = tau("logme", "fine_tuned", target, CUTS)
    claim(f"{target}: LogME and fine-tune agree over the cuts, tau above 0.3", of_cuts, above=0.3)
of_all = tau("logme", "fine_tuned", "digits")
claim("digits: LogME and fine-tune agree little over all, tau below 0.3", of_all, below=0.3)

# %%
for target in TRUTH:
    of_classifiers = tau("leep", "probe", target, CLASSIFIERS)
    claim(f"{target}: LEEP and probe agree, tau above 0.3", of_classifiers, above=0.3)
for target in TRUTH:
    better = tau("probe_val", "probe", target) - tau("logme", "probe", target)
    claim(f"{target}: a pilot of a probe foretells the probe better than LogME", better, above=0.0)

# %%
deepest = {target: gained_by_choosing("logme", target) for target in TRUTH}
claim("solar: the cut that LogME puts first beats the whole network, fine-tuned", deepest["solar"], above=0.0)
claim("digits: the cut that LogME puts first beats the whole network by 0.1, fine-tuned", deepest["digits"], above=0.1)

# %%
KINDS = {"cuts of Lite0": CUTS, "never trained": UNTRAINED, "small, trained here": SOURCES}
figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), sharex="col")
for column, target in enumerate(TRUTH):
    for row, found in enumerate(("probe", "fine_tuned")):
        ax = axes[row, column]
        for (kind, names), colour, marker in zip(KINDS.items(), ("#3f90da", "#717581", "#e76300"), "oXs", strict=True):
            if found == "fine_tuned" and target == "solar" and names != CUTS:
                continue
            truths = [of(found, target, name) for name in names]
            x, y = over("logme", target, names).mean(axis=1), [scores.mean for scores in truths]
            half = [scores.interval()[1] - scores.mean for scores in truths]
            ax.errorbar(x, y, yerr=half, fmt=marker, color=colour, markersize=5, linewidth=1, label=kind)
        ax.set_ylabel(f"{found.replace('_', '-')}: {TRUTH[target].replace('_', ' ')}")
    axes[0, column].set_title(target)
    axes[1, column].set_xlabel("LogME (nats a sample), mean over seeds")
axes[0, 0].legend(frameon=False, fontsize=8)
figure.tight_layout()
plots.show(
    figure,
    alt="Scores of candidates against LogME, solar cells on the left, digits on the right, a probe above and a "
    "fine-tune below, with 95 % intervals over seeds. Probes rise with LogME; among the fine-tuned, small networks "
    "trained here do not follow the line of the cuts.",
    colours=64,
)

# %%
BOTH = (
    ("LogME, probe", "logme", "probe", ALL),
    ("H-score, probe", "h_score", "probe", ALL),
    ("LEEP, probe", "leep", "probe", CLASSIFIERS),
    ("NCE, probe", "nce", "probe", CLASSIFIERS),
    ("pilot, probe", "probe_val", "probe", ALL),
    ("LogME, fine-tune of cuts", "logme", "fine_tuned", CUTS),
    ("pilot, fine-tune of cuts", "probe_val", "fine_tuned", CUTS),
)
DIGITS = (
    ("LogME, fine-tune of all", "logme", "fine_tuned", ALL),
    ("pilot, fine-tune of all", "probe_val", "fine_tuned", ALL),
    ("LEEP, fine-tune", "leep", "fine_tuned", CLASSIFIERS),
)
taus = {f"{target}: {row[0]}": tau(*row[1:3], target, row[3]) for target in TRUTH for row in BOTH}
taus |= {f"digits: {row[0]}": tau(*row[1:3], "digits", row[3]) for row in DIGITS}
plots.show(
    plots.differences(taus, bar=0.3, label="Kendall's tau"),
    alt="Kendall's tau of LogME, H-score, LEEP, NCE and a pilot with what a probe and a fine-tune came to, for solar "
    "cells and digits, with 95 % intervals over seeds and a bar at 0.3.",
    colours=64,
)
