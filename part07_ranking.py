# %%
import matplotlib.pyplot as plt
import numpy as np

from tlcourse import Scores, claim, kendall, load_results, load_task, plots
from tlcourse.experiments.lesson07_ranking import RANKING
from tlcourse.experiments.ranking import CLASSIFIERS, CUTS, EPOCHS, LABELS, NO_BOUND, SOURCES, TRUTH, UNTRAINED, WHOLE

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
# What comes of a candidate is asked on the test split: of a **probe** on the frozen features and, on digits, where it
# is cheap enough, of a **fine-tune** of everything in a candidate, {{ EPOCHS }} passes with one rate for all
# (features are standardised before the new head, for cuts put out numbers of very different size). The runs are kept
# (`make experiments NAME=ranking`).

# %%
ranked = load_results(RANKING)
ALL = (*CUTS, *UNTRAINED, *SOURCES)


def of(metric, target, name):
    return ranked.scores(metric, name=name, target=target)


def over(metric, target, names):
    """Candidates down, seeds across."""
    return np.array([of(metric, target, name).values for name in names])


def tau(ranking, found, target, names=ALL):
    """Kendall's tau of a ranking with what came of it, seed by seed."""
    pairs = zip(over(ranking, target, names).T, over(found, target, names).T, strict=True)
    return Scores(tuple(kendall(a, b).value for a, b in pairs), RANKING.seeds, f"{ranking}, {target}")


def gained_by_choosing(metric, target, names=CUTS):
    """Fine-tuned score of the candidate that a metric puts first, less that of the whole network."""
    found, first = over("fine_tuned", target, names), over(metric, target, names).argmax(axis=0)
    chosen = found[first, np.arange(found.shape[1])]
    return Scores(tuple(chosen - found[names.index(WHOLE)]), RANKING.seeds, f"first by {metric}", paired=True)


# %% [markdown]
# Kendall's tau counts pairs of candidates: `1` if the formula has every pair in the order in which the pair came out,
# `0` if it does no better than a guess. Say first: how high will LogME's be for the probe? And for the fine-tune?
#
# Written down before the runs:
#
# - LogME's tau with the **probe** is **above `0.3`** over all candidates, for cells and for digits;
# - its tau with the **fine-tune** is **above `0.3`** over the cuts of one network; over all candidates, networks of two
#   kinds, we expect it **below `0.3`**: a formula that reads frozen features cannot know how far a network will move;
# - LEEP's tau with the probe is **above `0.3`** over those that have a classifier, for cells and for digits;
# - a **pilot**, the validation score of a cheap probe, foretells the test score of the probe better than LogME: its tau
#   is higher, the difference **above `0`**;
# - on digits the cut that LogME puts first fine-tunes better than the whole network, by **more than `0.1`**: 28 pixels
#   leave the last stages a map of one.

# %%
for target in TRUTH:
    claim(f"{target}: LogME and probe agree, tau above 0.3", tau("logme", "probe", target), above=0.3)
of_cuts = tau("logme", "fine_tuned", "digits", CUTS)
claim("digits: LogME and fine-tune agree over the cuts, tau above 0.3", of_cuts, above=0.3)
of_all = tau("logme", "fine_tuned", "digits")
over_all = claim("digits: LogME and fine-tune agree little over all, tau below 0.3", of_all, below=0.3)

# %%
of_classifiers = {target: tau("leep", "probe", target, CLASSIFIERS) for target in TRUTH}
for target, scores in of_classifiers.items():
    claim(f"{target}: LEEP and probe agree, tau above 0.3", scores, above=0.3)
pilot = {target: tau("probe_val", "probe", target) - tau("logme", "probe", target) for target in TRUTH}
for target, scores in pilot.items():
    claim(f"{target}: a pilot of a probe foretells the probe better than LogME", scores, above=0.0)
by_logme = gained_by_choosing("logme", "digits")
claim("digits: the cut that LogME puts first beats the whole network by 0.1, fine-tuned", by_logme, above=0.1)

# %%
KINDS = {"cuts of Lite0": CUTS, "never trained": UNTRAINED, "small, trained here": SOURCES}
PANELS = (("solar", "probe"), ("digits", "probe"), ("digits", "fine_tuned"))
figure, axes = plt.subplots(1, 3, figsize=(11, 3.8))
for ax, (target, found) in zip(axes, PANELS, strict=True):
    for (kind, names), colour, marker in zip(KINDS.items(), ("#3f90da", "#717581", "#e76300"), "oXs", strict=True):
        truths = [of(found, target, name) for name in names]
        y, half = [scores.mean for scores in truths], [scores.interval()[1] - scores.mean for scores in truths]
        x = np.median(over("logme", target, names), axis=1)
        ax.errorbar(x, y, yerr=half, fmt=marker, color=colour, markersize=5, linewidth=1, label=kind)
    ax.set(xlabel="LogME (nats a sample)", ylabel=TRUTH[target].replace("_", " "))
    ax.set_title(f"{target}: {found.replace('_', '-').replace('tuned', 'tune')}")
axes[0].legend(frameon=False, fontsize=8)
figure.tight_layout()
plots.show(
    figure,
    alt="What came of the candidates against LogME, medians over seeds along, means with 95 % intervals up: a probe on "
    "solar cells, a probe on digits, a fine-tune on digits. In the last, small networks do not follow the cuts.",
    colours=64,
)

# %%
ROWS = (
    *(
        (f"{target}: {name}, probe", metric, "probe", target, names)
        for target in TRUTH
        for name, metric, names in (
            ("LogME", "logme", ALL),
            ("H-score", "h_score", ALL),
            ("LEEP", "leep", CLASSIFIERS),
            ("NCE", "nce", CLASSIFIERS),
            ("pilot", "probe_val", ALL),
        )
    ),
    ("digits: LogME, fine-tune of cuts", "logme", "fine_tuned", "digits", CUTS),
    ("digits: LogME, fine-tune of all", "logme", "fine_tuned", "digits", ALL),
    ("digits: pilot, fine-tune of all", "probe_val", "fine_tuned", "digits", ALL),
    ("digits: LEEP, fine-tune", "leep", "fine_tuned", "digits", CLASSIFIERS),
)
plots.show(
    plots.differences({name: tau(*row) for name, *row in ROWS}, bar=0.3, label="Kendall's tau"),
    alt="Kendall's tau of LogME, H-score, LEEP, NCE and a pilot with what a probe and a fine-tune came to, for solar "
    "cells and digits, with 95 % intervals over seeds and a bar at 0.3.",
    colours=64,
)


# %%
def in_words(scores):
    (low, high), mean = scores.interval(), scores.mean
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


one = kendall(over("logme", "digits", ALL)[:, 0], over("probe", "digits", ALL)[:, 0])
unbounded = int((over("logme", "digits", ALL) == NO_BOUND).sum())
largest = len(load_task("digits", labels=10).class_names) - 1
full = int((over("h_score_plain", "digits", ALL).mean(axis=1) > largest - 1e-3).sum())

# %% [markdown]
# What was seen. With the **probe**, LogME's tau is {{ in_words(tau("logme", "probe", "digits")) }} on digits and
# {{ in_words(tau("logme", "probe", "solar")) }} on cells, where the candidates lie closer together. With the
# **fine-tune** it is {{ in_words(of_cuts) }} over the cuts, and {{ in_words(of_all) }} over all candidates
# ({{ over_all.found }}, that this is below `0.3`). Compare the two panels on the right: the small networks, which stand
# low by LogME, move up against the cuts once everything may move. LogME judges where a network stands, not how far it
# will go.
#
# These intervals are over seeds: the same candidates, other labels. Of other candidates they say nothing. For the first
# seed, with the {{ len(ALL) }} candidates resampled, the first of these taus is {{ f"{one.value:+.2f}" }} with an
# interval from {{ f"{one.low:+.2f}" }} to {{ f"{one.high:+.2f}" }}.
#
# LEEP's tau with the probe is {{ in_words(of_classifiers["digits"]) }} on digits and
# {{ in_words(of_classifiers["solar"]) }} on cells. It reads nothing of the features, only which of the source's classes
# a sample falls into: a source of two classes can say little about ten. The **pilot**, one probe and a validation
# split, is the one to beat: against LogME it gains {{ in_words(pilot["digits"]) }} of tau on digits and
# {{ in_words(pilot["solar"]) }} on cells. It costs seconds more, and it asks what you want to know.
#
# Choosing a cut by LogME, and not the whole network, gains {{ in_words(by_logme) }} of balanced accuracy after a
# fine-tune on digits.
#
# **Trap: more dimensions than samples.** With {{ LABELS }} labels, the H-score without shrinkage is at its largest
# possible value for {{ full }} of {{ len(ALL) }} candidates on digits, whatever their features are worth: there are
# enough dimensions to fit any labels. LogME is not safe from it either: in {{ unbounded }} of its
# {{ len(ALL) * len(RANKING.seeds) }} runs on digits the features fit a class to the last digit, the evidence has no
# bound, and the candidate stands first (we kept {{ f"{NO_BOUND:g}" }} for it). Look at the number of labels before you
# look at a score.
