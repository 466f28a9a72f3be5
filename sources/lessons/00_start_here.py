# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · Start here
#
# **The question: two models are compared on a test set, and one of them wins. When may you believe it?**
#
# Transfer learning is full of recipes. *Freeze this, open that, divide the rate by so much.* Each of them was a
# winner in somebody's table. Some of those wins were skill and some were luck, and from the table alone you cannot
# tell which. So before we train anything, we learn to tell. In this lesson you will
#
# 1. check your machine, see what the course is about, and meet its five data sets;
# 2. learn to read five scores;
# 3. run a lottery in which **a model competes against itself**, and often wins;
# 4. build the interval that protects you from such wins, and make claims that can fail.
#
# About 45 minutes of your time, and about two minutes of the machine's. You need some Python, and you should have
# trained a classifier once. You need no GPU, no account and, once the course is installed, no network.
#
# **How to work.** Run the cells from top to bottom with Shift+Enter; each needs those above it. When a box asks for a
# prediction, commit one before you go on. It takes ten seconds, nobody else sees it, and a wrong guess is what you
# will remember best.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LogNorm
from scipy.stats import t as student

from tlcourse import (
    Scores,
    attach_head,
    claim,
    describe_plan,
    discriminative,
    extract_features,
    feature_extraction,
    fit_probe,
    full_fine_tune,
    last_stages,
    load_backbone,
    load_task,
    metrics,
    over_seeds,
    plots,
    widgets,
)
from tlcourse.doctor import diagnose
from tlcourse.figures import BAR, INK, new_axes
from tlcourse.sources import package_path

# %% [markdown]
# ## Your machine
#
# The doctor looks at Python, at the packages, at the free disk and memory, and at the embedded weights and data,
# whose checksums it compares. If something is missing, the next cell stops and says what to do about it. For the full
# list, with versions and your GPU if there is one, run `make doctor` in a terminal.

# %%
for row in diagnose(quick=True):
    assert row.status != "fail", f"{row.name}: {row.value}. {row.advice}"
print("Everything that the course needs is here.")

# %% [markdown]
# Everything in the course also runs on two processor cores. Where there is a GPU, `tlcourse` finds and uses it by
# itself: no cell has to be changed. On Colab, the first cell of every notebook installs the course; choose *Runtime →
# Change runtime type* for a GPU.
#
# ## The course in one picture
#
# **A network is a row of stages.** An image goes in on the left, each stage rewrites it, and on the right come
# numbers that describe it: the *features*. A small classifier, the *head*, turns features into an answer. In transfer
# learning the stages come from somebody else's training on a large task, here ImageNet, and only the head is new.
#
# **A strategy is a plan: it says how fast each stage may move.** That is the whole idea. Watch four well-known
# strategies become four rows of one picture.

# %%
backbone = load_backbone("efficientnet_lite0")
solar = load_task("solar", size=64)
model = attach_head(backbone, solar)
plans = [feature_extraction(model), last_stages(model, 3), discriminative(model), full_fine_tune(model)]
tables = [describe_plan(model, plan) for plan in plans]
rates = np.array([[max(row["lr"], default=0.0) for row in table] for table in tables])  # (plans, stages)

# %%
figure, ax = plt.subplots(figsize=(9, 3.2), layout="constrained")
moving = np.ma.masked_equal(rates, 0.0)
ax.pcolormesh(moving, cmap="YlOrBr", norm=LogNorm(1e-8, 0.05), edgecolors="white", linewidth=3)
for (row, column), rate in np.ndenumerate(rates):
    ax.text(column + 0.5, row + 0.5, f"{rate:.0e}" if rate else "frozen", ha="center", va="center", fontsize=8)
ax.set_xticks(np.arange(len(model.stages)) + 0.5, model.stages)
ax.set_yticks(np.arange(len(plans)) + 0.5, [plan.name for plan in plans])
ax.invert_yaxis()
ax.tick_params(length=0)
ax.spines[:].set_visible(False)
ax.set_title("How fast each stage of EfficientNet-Lite0 moves (learning rate) under four plans")
plots.show(
    figure,
    alt="A table of four plans by ten stages. Feature extraction moves the head alone; last 3 stages opens the end of "
    "the row; discriminative moves every stage, the earlier the slower; full fine-tuning moves all at one rate.",
)

# %% [markdown]
# Ten columns, and every strategy is a way to colour them. The network has
# {{ f"{sum(row['parameters'] for row in tables[0]) / 1e6:.1f}" }} million parameters; feature extraction, the first
# row, trains {{ f"{sum(row['trainable'] for row in tables[0]):,}" }} of them.
#
# The course asks, one lesson at a time: what is a pre-trained network worth (01)? What is in the stages (02)? When is
# a new head enough (03), when must the stages move, and how fast (04, 05)? Is it the same with text (06)? How do you
# choose for your own data (07)? What does the network forget meanwhile, and how is that prevented (08 to 10)? What
# changes with other and larger models (11, 12)? And at last: your own data (13). Each number is a notebook beside
# this one, as far as it has been written.
#
# Take the lessons in order, at least 00, 01 and 03; the later ones build on those.
#
# ## The data
#
# Five data sets, all small enough for a laptop. Each is a *task*: images or texts with labels, cut into three parts.
# `train` is for learning, `val` is for choosing, and `test` is opened once, at the end. `describe()` says where the
# data come from and on which terms you may use them.
#
# ### 1 · Solar cells: the course's main task

# %%
print(solar.describe())

# %%
close = load_task("solar", size=96).train
chosen = torch.cat([torch.where(close.labels == label)[0][:6] for label in (0, 1)])
figure = plots.images_grid(
    close.inputs[chosen],
    [solar.class_names[label] for label in close.labels[chosen]],
    columns=6,
    licence="ELPV data set, CC BY-NC-SA 4.0",
)
plots.show(figure, alt="Twelve grey photographs of solar cells: six intact ones above, six defective ones below.")

# %% [markdown]
# A current is sent through the cell, and the cell glows in the infrared. Dead areas stay dark. Some defects are
# plain; others hide in the grain of the crystal, and for 401 cells the experts themselves were not sure. The pictures
# have little in common with ImageNet's dogs and teapots, and that is why we took them: here it is not obvious that
# transfer helps.
#
# ### 2 and 3 · Digits, large and small

# %%
digits, small = load_task("digits"), load_task("digits8")
print(digits.describe())
print(small.describe())

# %%
for task in (digits, small):
    first = torch.stack([torch.where(task.train.labels == label)[0][0] for label in range(10)])
    figure = plots.images_grid(task.train.inputs[first], task.class_names, columns=10)
    side = task.train.inputs.shape[-1]
    plots.show(figure, alt=f"One handwritten digit of each class from 0 to 9, in {side} by {side} pixels.")

# %% [markdown]
# The same ten classes in two resolutions, from different writers. They are easy to learn, which makes them good for
# questions about *learning itself*: what happens to the first task when a second one follows?
#
# ### 4 · News topics
#
# Texts reach a network as *tokens*: pieces of words, each with a number. The next picture shows how many articles
# there are of each topic, and how long they are.

# %%
news = load_task("news", max_length=512)
print(news.describe())


def draw_texts(task, *, longest):
    """Texts a class, and tokens a text, in the training split."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
    new_axes(left).barh(task.class_names, torch.bincount(task.train.labels))
    left.set_xlabel("texts in the training split")
    new_axes(right).hist(task.train.inputs.mask.sum(dim=1), bins=np.linspace(0, longest, 33))
    right.set(xlabel=f"tokens a text (cut at {longest})", ylabel="texts")
    return figure


plots.show(
    draw_texts(news, longest=512),
    alt="News: the five topics differ in size by less than a factor of two; most articles have over 200 tokens.",
)

# %% [markdown]
# The bar at the far right holds the long articles: MiniLM, our text network, reads 512 tokens at most, and the rest
# is cut. Lessons read only the first 64, which is about the first two sentences, since that is many times faster.
# This is what an article is like: its headline and one sentence.

# %%
article = sorted((package_path("news") / "tech").glob("*.txt"))[0].read_text(encoding="utf-8")
headline, body = article.split("\n", maxsplit=1)
print(headline.strip())
print(body.strip().splitlines()[0])

# %% [markdown]
# ### 5 · Sentiment of tweets

# %%
tweets = load_task("sentiment")
print(tweets.describe())
plots.show(
    draw_texts(tweets, longest=64),
    alt="Sentiment: the three classes are of unequal size; nearly all tweets have fewer than 50 tokens.",
)

# %% [markdown]
# We show no tweet: they are unmoderated. In this course they are the *second* task, the one that makes a news
# classifier forget its news (lessons 08 to 10).
#
# Look at the bars on the left again. In the news, the classes do not differ much in size. Among the tweets and the
# solar cells they do. That matters for how we keep score.
#
# ## Five scores, and what each one sees
#
# To have something to score, we need a classifier, and we take the cheapest one that works: send every cell through
# the frozen network once, keep the {{ str(backbone.feature_dim) }} features, and fit a logistic regression to them.
# Such a classifier is called a **probe**. Lesson 03 is about it; here it is only our test animal.

# %%
parts = (solar.train, solar.val, solar.test)
features = torch.zeros(sum(len(part) for part in parts), backbone.feature_dim)  # (cells, D)
for part in parts:
    features[part.index] = extract_features(backbone, part.inputs)  # index: which row of the data set a sample is

# %% [markdown]
# From now on a cell is a row of `features`, and a probe takes a fraction of a second. We compare three classifiers on
# the same test cells:
#
# - **shares**: it looks at nothing and tells every cell the shares of the classes in the training data;
# - **probe**: logistic regression with a strong penalty on its weights (`C=1e-3`);
# - **weak penalty**: the same with `C=1`.

# %%
x, y = features[solar.train.index], solar.train.labels
test_x, test_y = features[solar.test.index], solar.test.labels
shares = torch.bincount(y) / len(y)
answers = {
    "shares": shares.expand(len(test_y), 2).numpy(),
    "probe": fit_probe(x, y, strengths=(1e-3,)).probabilities(test_x),
    "weak penalty": fit_probe(x, y, strengths=(1.0,)).probabilities(test_x),
}
scores = {name: metrics(test_y, probabilities) for name, probabilities in answers.items()}


def figures(score):
    """The three figures of one line of the table below."""
    return " | ".join(f"{scores[name][score]:.2f}" for name in answers)


# %% [markdown]
# | | shares | probe | weak penalty | what it asks |
# |---|---|---|---|---|
# | accuracy | {{ figures("accuracy") }} | what share of the answers is right? |
# | balanced accuracy | {{ figures("balanced_accuracy") }} | the same for each class alone, then averaged |
# | AUC | {{ figures("auc") }} | how often does a defective cell rank above an intact one? |
# | log-loss (nats) | {{ figures("log_loss") }} | how surprised was it by the truth? (lower is better) |
# | calibration error | {{ figures("calibration_error") }} | is it right as often as it says? (lower is better) |
#
# Read the column *shares* first. A classifier that never looks at a cell has an accuracy of
# {{ f"{scores['shares']['accuracy']:.2f}" }}, because most cells are intact. **Balanced accuracy** and **AUC** are
# not fooled: both stand at one half, which is what guessing gives. The AUC needs no threshold, it looks at the
# ranking alone, and so it is our usual score for solar cells.
#
# Now compare the two probes. Accuracy puts the first ahead, balanced accuracy the second. Both are right: the strong
# penalty makes the probe cautious. It calls {{ str(int((answers["probe"].argmax(axis=1) == 1).sum())) }} cells
# defective, the other one {{ str(int((answers["weak penalty"].argmax(axis=1) == 1).sum())) }}, and
# {{ str(int(test_y.sum())) }} are; so the first makes fewer mistakes but misses more defects. The AUC, which lets no
# threshold interfere, prefers the first. The starkest difference is in the **log-loss**. It is the mean of minus the
# logarithm of the probability that was given to the truth: who says "defective, with certainty" and is wrong pays
# dearly. The reason can be drawn. In a **reliability diagram** the answers are sorted by how sure the classifier was;
# each point says how often it was right when it was that sure. On the diagonal, its word can be taken at face value:
# it is *calibrated*.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for ax, name in zip(axes, ("probe", "weak penalty"), strict=True):
    plots.reliability(test_y, answers[name], ax=ax)
    ax.set_title(name)
plots.show(
    figure,
    alt="Two reliability diagrams. The points of the probe lie near the diagonal; those of the weak penalty "
    "lie below it: it is surer than it is right.",
)

# %% [markdown]
# The probe with the weak penalty is overconfident: where it is surest, it is right less often than it says. If you
# act on the answers ("replace the cell if a defect is likelier than one in three"), that is a serious fault, and
# accuracy does not see it. No single score is the right one. Choose the one that measures what you need, **before**
# you look.
#
# ## The seed lottery
#
# Here is the experiment of this lesson. We take *one* setting: the same frozen network, the same penalty, 100
# labelled cells. We run it twice and call the runs **A** and **B**. The only difference is the seed that draws which
# 100 cells are labelled. Then A and B fight a duel on a test set, and we note who wins.
#
# There is nothing to find. A and B are the same thing, and any winner is a false winner. Still, many a comparison in
# print is just such a duel: one run each, on the test set at hand.
#
# **Predict.** The test set has 50 cells. We call it a win if the accuracies differ by two percentage points or more.

# %%
prediction = widgets.predict(
    "Of 100 duels between two identical probes on 50 test cells: how many have a winner?",
    low=0,
    high=100,
    unit="duels",
    key="00-false-winners",
)

# %% [markdown]
# First we buy 200 lottery tickets. A ticket is one run: 100 labels drawn by its seed, one probe fitted, and for each
# of the test cells whether the answer was right.

# %%
TICKETS, LABELS = 200, 100


def right_answers(seed):
    """One run: for each test cell, was the answer right? bool (cells,)"""
    drawn = torch.from_numpy(np.random.default_rng(seed).choice(len(y), LABELS, replace=False))
    probe = fit_probe(x[drawn], y[drawn], strengths=(1e-3,))
    return probe.probabilities(test_x).argmax(axis=1) == test_y.numpy()


tickets = np.stack([right_answers(seed) for seed in range(TICKETS)])  # (tickets, cells)

# %% [markdown]
# Then come the duels. In each one we draw a test set from the test cells, and tickets for A and for B. With one seed
# a side it is a single run against a single run. With more seeds, the mean of A's runs meets the mean of B's.

# %%
WIN = 0.02  # two percentage points of accuracy


def duels(tickets, *, cells, seeds, rng, times):
    """Accuracy of A minus accuracy of B, in so many duels: float (times,)"""
    differences = np.empty(times)
    for number in range(times):
        seen = rng.choice(tickets.shape[1], cells, replace=False)
        drawn = rng.choice(len(tickets), 2 * seeds, replace=False)
        accuracy = tickets[np.ix_(drawn, seen)].mean(axis=1)  # (2 * seeds,)
        differences[number] = accuracy[:seeds].mean() - accuracy[seeds:].mean()
    return differences


def won(differences):
    """Share of duels with a winner; rounded first, so that 0.02 is 0.02 on every processor."""
    return float((np.abs(differences).round(9) >= WIN).mean())


# %% [markdown]
# What do 2,000 duels look like with 50 test cells and one seed a side, and what with all test cells and ten seeds a
# side?

# %%
rng = np.random.default_rng(0)
lone = duels(tickets, cells=50, seeds=1, rng=rng, times=2000)
many = duels(tickets, cells=len(test_y), seeds=10, rng=rng, times=2000)

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
titles = ("50 test cells, 1 seed a side", f"{len(test_y)} test cells, 10 seeds a side")
for ax, differences, title in zip(axes, (lone, many), titles, strict=True):
    plots.histogram(
        100 * differences, label="accuracy of A minus B (points)", counted="duels", bins=np.arange(-20.5, 21), ax=ax
    )
    ax.axvspan(-100 * WIN, 100 * WIN, color=INK, alpha=0.12, label="no winner")
    ax.set(title=title, xlim=(-20, 20))
    ax.legend(frameon=False)
plots.show(
    figure,
    alt="Differences between two identical probes. With 50 cells and one seed they spread over more than ten points to "
    "each side; with all cells and ten seeds nearly all of them are within two points of zero.",
)

# %% [markdown]
# Both pictures are centred on zero, as they must be. On the left the differences come in steps of two points, for one
# cell of 50 is two points, and only the bar at zero means "no winner": bars on the edge of the grey band are wins.
# The largest "win" is {{ f"{100 * np.abs(lone).max():.0f}" }} points: enough for a paper, and it is a probe that beat
# itself.
#
# What makes false winners rarer: more test cells, or more seeds? To see how far this answer can itself be trusted, we
# deal the tickets to ten separate lotteries of 20 tickets each. `over_seeds` runs a function once a seed, here once a
# lottery, and collects what it returns.

# %%


def false_winners(cells, seeds):
    """A function of the seed: winners in 100 duels, in the lottery that owns these 20 tickets."""

    def run(seed):
        own = tickets[20 * seed : 20 * seed + 20]
        return 100 * won(duels(own, cells=cells, seeds=seeds, rng=np.random.default_rng(seed), times=500))

    return run


CELLS = (50, 100, 200, len(test_y))
winners = {
    f"{seeds} seed{'s' if seeds > 1 else ''} a side": {
        cells: over_seeds(false_winners(cells, seeds), range(10)) for cells in CELLS
    }
    for seeds in (1, 5, 10)
}

# %%
ax = plots.compute_curve(winners, metric="false winners in 100 duels", unit="test cells", prediction=prediction)
ax.set_ylim(0, 100)
ax.get_legend().set_title("mean and 95 % interval, n = 10 lotteries")
plots.show(ax, alt="The number of false winners falls with the number of test cells and with the number of seeds.")

# %%
single, ten = winners["1 seed a side"], winners["10 seeds a side"]
prediction.reveal(single[50].mean, single[50].interval())

# %% [markdown]
# A single run a side on 50 cells: {{ f"{single[50].mean:.0f}" }} of 100 duels have a winner. All
# {{ str(len(test_y)) }} cells, but still a single run: {{ f"{single[len(test_y)].mean:.0f}" }}. A large test set does
# not save you from a lucky draw of labels. Ten seeds, but 50 cells: {{ f"{ten[50].mean:.0f}" }}, rarer but not rare.
# Both together: {{ f"{ten[len(test_y)].mean:.0f}" }}. (The shaded bands are the intervals that we are about to
# build.)
#
# **Why.** Two lotteries are played at once. *The test set* is a sample: with an accuracy of $a$ on $m$ cells, the
# standard error of that accuracy is $\sqrt{a(1-a)/m}$, here
# {{ f"{100 * (tickets.mean() * (1 - tickets.mean()) / 50) ** 0.5:.1f}" }} points with 50 cells and
# {{ f"{100 * (tickets.mean() * (1 - tickets.mean()) / len(test_y)) ** 0.5:.1f}" }} with all. *The training* is a
# sample too: on all test cells, always the same, the accuracies of our 200 tickets have a standard deviation of
# {{ f"{100 * tickets.mean(axis=1).std(ddof=1):.1f}" }} points. Where a network is trained, the order of the batches
# and the first weights of the new head are drawn as well.
#
# One thing makes our lottery kinder than life. A and B are the same, so a test set can favour neither of them for
# good, and with ever more seeds the false winners would die out on any test set. Two *different* settings of equal
# worth are another matter: a small test set may happen to suit one of them, and then no number of seeds on it helps.
# That is why in this course a seed draws the test cells anew, too.
#
# ## An interval, built by hand
#
# We need a rule that knows how noisy the comparison is. Take $n$ seeds, and for each seed $i$ the difference $d_i$.
# Their mean $\bar d$ is our estimate. How far may it be off? If $s$ is the standard deviation of the $d_i$, then
#
# $$\bar d \;\pm\; t_{n-1} \cdot \frac{s}{\sqrt{n}}$$
#
# covers the true difference in 95 of 100 such experiments, if the $d_i$ are independent and not far from normally
# distributed. The factor $t_{n-1}$ is Student's: with few seeds $s$ itself is uncertain, and the factor makes up for
# it. In code it is three lines. Five seeds of A against five of B:

# %%
accuracy = tickets.mean(axis=1)
d = accuracy[100:105] - accuracy[:5]  # B minus A, over seeds 0 to 4
half_width = student.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
low, high = d.mean() - half_width, d.mean() + half_width

# %% [markdown]
# The interval runs from {{ f"{100 * low:+.1f}" }} to {{ f"{100 * high:+.1f}" }} points. In `tlcourse` the same is
# called `Scores`: the values, one a seed, which know their mean and their interval. Two `Scores` are subtracted
# **seed by seed**, and only if their seeds are the same.

# %%
A = Scores(accuracy[:5], seeds=range(5), name="A")
B = Scores(accuracy[100:105], seeds=range(5), name="B")
assert np.allclose((B - A).interval(), (low, high))

# %% [markdown]
# Does the rule keep its promise? In the lottery we can check it, for we know the truth: the difference is zero. We
# make 2,000 experiments of five seeds each and count how often the interval misses the zero, that is, how often *the
# interval* declares a false winner.

# %%
misses = 0
for _ in range(2000):
    drawn = rng.choice(TICKETS, 10, replace=False)
    d = accuracy[drawn[:5]] - accuracy[drawn[5:]]
    misses += abs(d.mean()) > student.ppf(0.975, 4) * d.std(ddof=1) / np.sqrt(5)

# %% [markdown]
# {{ f"{100 * misses / 2000:.1f}" }} in 100, where about five were promised. The rule does not abolish false winners.
# It says how many there will be, and you decide whether you can live with that.
#
# ## Paired, or not?
#
# Why seed by seed? Let us take a comparison where there *is* something to find: 400 labels against 200. In the course
# a seed draws the split into training and test cells too, and the 200 labels of a seed are among its 400. So within a
# seed both probes have much in common: the same test cells, and half of the labels. A seed with hard test cells pulls
# both down, and in the difference that cancels.
#
# `over_seeds` makes the `Scores`, ten seeds on each side.

# %%


def probe_auc(labels):
    """A function of the seed: AUC of the probe with so many labels, on that seed's test cells."""

    def run(seed):
        task = load_task("solar", size=64, labels=labels, seed=seed)
        probe = fit_probe(features[task.train.index], task.train.labels, strengths=(1e-3,))
        return metrics(task.test.labels, probe.probabilities(features[task.test.index]))["auc"]

    return run


few = over_seeds(probe_auc(200), range(10), name="200 labels")
more = over_seeds(probe_auc(400), range(10), name="400 labels")
gain = more - few

# %% [markdown]
# For comparison, the interval without pairing (Welch's): it knows the two means and spreads, but not which score
# belongs to which.

# %%
variances = np.array([few.std**2, more.std**2]) / 10
freedom = variances.sum() ** 2 / (variances**2 / 9).sum()  # Welch and Satterthwaite
unpaired = student.ppf(0.975, freedom) * np.sqrt(variances.sum())
paired = (gain.interval()[1] - gain.interval()[0]) / 2

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), width_ratios=(3, 2), layout="constrained")
plots.points_over_seeds({few.name: few, more.name: more}, metric="auc", paired=True, ax=left)
new_axes(right).errorbar((0, 1), (gain.mean, gain.mean), yerr=(unpaired, paired), fmt="D", color=INK, capsize=6)
right.axhline(0, color=BAR, linewidth=1)
right.set_xticks((0, 1), ("not paired", "paired"))
right.set(xlim=(-0.5, 1.5), ylabel="gain in AUC", title="95 % t-intervals, n = 10 seeds")
plots.show(
    figure,
    alt="Left: the AUC with 200 and with 400 labels, ten seeds, the points of a seed joined by a line. Right: the gain "
    "with two intervals; the paired one is the narrower.",
)

# %% [markdown]
# The gain is {{ f"{gain.mean:.3f}" }} in AUC either way, ± {{ f"{unpaired:.3f}" }} without pairing and ±
# {{ f"{paired:.3f}" }} with it. Pairing costs nothing: use the same seeds on both sides. **Every comparison in this
# course is paired**, and `Scores` refuses to subtract what does not match.
#
# ## A claim, from start to end
#
# A claim in this course is a sentence that can fail. It is made in this order:
#
# 1. the **sentence**: "With 1,000 labels, a probe on pre-trained features beats a probe on the features of a random
#    network";
# 2. the **score** and the **bar**: AUC, and by more than `0.02`; what is less than that would not interest us;
# 3. the **expectation**: supported. ImageNet is far from solar cells, but an edge is an edge;
# 4. the **seeds**: 0 to 4. Each draws its own split, labels and random network;
# 5. only then the **run**.
#
# The probe has one knob, its penalty `C`, and we must not turn it by looking at the test cells. **Validation chooses;
# the test is opened once.** Given validation cells, `fit_probe` tries five penalties and keeps the one with the
# lowest log-loss on them. (In this lesson we have already looked at the test cells of seed 0 many times, to see what
# looking does. Nothing was chosen by it.)

# %%


def pretrained_or_random(seed):
    """AUC of both probes on this seed's test cells, which choose nothing."""
    task = load_task("solar", size=64, labels=1000, seed=seed)
    untrained = load_backbone("efficientnet_lite0", pretrained=False, seed=seed)
    splits = (task.train, task.val, task.test)
    both = {
        "pre-trained": [features[split.index] for split in splits],
        "random": [extract_features(untrained, split.inputs) for split in splits],
    }
    auc = {}
    for name, (learn, choose, final) in both.items():
        probe = fit_probe(learn, task.train.labels, validation=(choose, task.val.labels))
        auc[name] = metrics(task.test.labels, probe.probabilities(final))["auc"]
    return auc


auc = over_seeds(pretrained_or_random, range(5))
gain = auc["pre-trained"] - auc["random"]

# %%
supported = claim(
    "With 1,000 labels, a probe on pre-trained features beats one on random features in AUC",
    gain,
    above=0.02,
    expect="supported",
)

# %% [markdown]
# Read the three lines. The first is the verdict. The second is what was fixed beforehand: the bar, the kind of
# interval and the number of seeds. The third is what was measured: the mean difference and its interval. The verdict
# follows from a simple rule:
#
# | the whole interval is ... | verdict |
# |---|---|
# | on the right side of the bar | **supported** |
# | on the wrong side of the bar | **refuted** |
# | on both sides | **inconclusive**: the experiment cannot tell |
#
# A bar can be set too high. Somebody claims that pre-training is worth `0.2` of AUC here. We expect that to be
# refuted:

# %%
refuted = claim(
    "With 1,000 labels, pre-training is worth more than 0.2 of AUC",
    gain,
    above=0.2,
    expect="refuted",
)

# %% [markdown]
# And what if there is nothing to find? A and B are the same setting, so a claim that B is better must not be
# supported:

# %%
inconclusive = claim("Setting B beats setting A in accuracy", B - A, above=0.0, expect="inconclusive")

# %%
figure, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
verdicts = {"gain above 0.02": supported, "gain above 0.2": refuted, "B beats A": inconclusive}
for height, verdict in enumerate(verdicts.values()):
    low, high = verdict.effect.interval()
    new_axes(ax).plot((low, verdict.effect.mean, high), (height,) * 3, color=INK, marker="D", markevery=[1])
    ax.plot(verdict.above, height, "|", color=BAR, markersize=26, markeredgewidth=3)
    ax.text(0.22, height, verdict.found, va="center")
ax.set_yticks(range(3), verdicts)
ax.set(xlim=(-0.08, 0.3), ylim=(2.6, -0.6), xlabel="difference in AUC or accuracy; the red stroke is the bar")
plots.show(
    figure,
    alt="Three intervals with their bars: the first lies right of its bar, supported; the second left of its bar, "
    "refuted; the third contains its bar, inconclusive.",
)

# %% [markdown]
# **Inconclusive is not "no difference".** It is "not with this evidence". Whoever wants to say that two settings are
# as good as equal must claim that, with two bars, and must bring enough seeds for an interval that fits between them.
# We have 100 pairs of tickets:

# %%
everyone = Scores(accuracy[100:] - accuracy[:100], seeds=range(100), name="B - A", paired=True)
equal = claim(
    "Settings A and B are within 0.02 of each other in accuracy",
    everyone,
    above=-0.02,
    below=0.02,
    expect="supported",
)

# %% [markdown]
# Now the lottery itself can be put to the test: the ten lotteries of 20 tickets are ten independent values. We set
# both bars after a pilot with other seeds, and expect both to be supported.

# %%
claim(
    "With one seed and 50 test cells, more than 50 of 100 duels have a false winner",
    single[50],
    above=50,
    expect="supported",
)
claim(
    "With ten seeds and all test cells, fewer than 20 of 100 duels have a false winner",
    ten[len(test_y)],
    below=20,
    expect="supported",
)

# %% [markdown]
# When a verdict is not the expected one, the first line says that too, and the lesson keeps it: a prediction that
# failed is a result.
#
# ## The trap: the best of many
#
# Suppose you are honest, but busy. You run 20 seeds, look at their scores on 50 test cells, and report the best:
# "this is the model that we would deploy". All 20 are the same setting. How much of the best one's score is still
# there on cells that nobody has looked at? We expect a loss of more than three points of accuracy.

# %%


def flattery(seed, looked_at=50):
    """Accuracy of the best of 20 where it was chosen, minus its accuracy elsewhere; mean of 200 draws."""
    own, rng = tickets[20 * seed : 20 * seed + 20], np.random.default_rng(seed)
    losses = []
    for _ in range(200):
        order = rng.permutation(len(test_y))
        used, fresh = order[:looked_at], order[looked_at:]
        best = own[:, used].mean(axis=1).argmax()
        losses.append(own[best, used].mean() - own[best, fresh].mean())
    return float(np.mean(losses))


lost = over_seeds(flattery, range(10), name="lost on fresh cells")
claim(
    "The best of 20 runs on 50 cells loses more than 0.03 of accuracy on fresh cells",
    lost,
    above=0.03,
    expect="supported",
)

# %% [markdown]
# On average the chosen run loses {{ f"{100 * lost.mean:.1f}" }} points as soon as it meets fresh cells. Nobody
# cheated. The score was used to choose, and **a score that has chosen is flattered**. The same happens when you
# choose a learning rate, an epoch to stop at, or a strategy. Hence the three splits: choose on validation as often as
# you like, its scores will be flattered, and you do not report them. The test split is for one look at the end.
#
# ## How the claims are kept true
#
# The notebooks are stored with their outputs. On every change of the course a machine runs each of them again and
# compares what is printed with what is stored (the tool is called [nbval](https://nbval.readthedocs.io)). Verdicts,
# bars and numbers of seeds must be the same; only the digits after `measured:` may differ, since another processor
# rounds otherwise. If a verdict changes, the build fails. Experiments that are too long for a lesson are run once and
# kept; one of their runs, drawn by a hash, is repeated each time.
#
# You can do the same: `make claims` lists all claims of the course with their effects and intervals, and `make test`
# repeats them.
#
# **What the interval does not say.** Our seeds redraw the splits, but always from the same 2,624 cells. The test sets
# of two seeds overlap, so the $d_i$ are not quite independent, and the interval is somewhat too narrow as a statement
# about *all* solar cells (Nadeau & Bengio 2003). About another factory's cells it says nothing at all. An interval
# covers the lottery that you played, no other.
#
# ## What to take away
#
# - A single run is a lottery ticket. Two tickets nearly always differ, and one of them "wins".
# - Two lotteries are played: the training and the test set. Seeds average out the first; for the second you need more
#   test cells, or cells drawn anew.
# - Compare within seeds, look at the interval of the differences, and say how many seeds there were.
# - Write down the sentence, the score, the bar and the expectation before you run.
# - Supported, refuted and inconclusive are all results. To claim "no difference", use two bars.
# - Validation chooses; the test is opened once.
# - Accuracy flatters where classes are unequal; AUC sees the ranking; log-loss and calibration see whether "sure"
#   means sure.
#
# **Try it.** Set `WIN = 0.05` and run the lottery again. Or let A have 100 labels and B 200: how many seeds does it
# take until that true difference is supported?

# %% [markdown] tags=["cited"]
# ## Where next
#
# - X. Bouthillier and others, *Accounting for variance in machine learning benchmarks*, MLSys 2021: which sources of
#   variance there are, and that drawing the data anew matters most.
# - J. Dodge and others, *Fine-tuning pretrained language models: weight initializations, data orders, and early
#   stopping*, 2020: BERT fine-tuned hundreds of times with nothing changed but seeds; the best seeds alone look like
#   progress.
# - C. Nadeau and Y. Bengio, *Inference for the generalization error*, Machine Learning 2003: what overlapping splits
#   do to an interval.
# - C. Guo and others, *On calibration of modern neural networks*, ICML 2017: reliability diagrams, and how to mend
#   overconfidence.
# - Student, *The probable error of a mean*, Biometrika 1908: the interval, from a brewery with few samples.
#
# **Next: [01 · Why transfer learning?](01_why_transfer_learning.ipynb)** We know how to ask. The first thing to ask
# is what pre-training is worth: in labels, and in compute.
