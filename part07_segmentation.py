# %%
from tlcourse import claim, load_results, plots
from tlcourse.experiments.lesson07_ranking import PIXELS
from tlcourse.experiments.pixels import EPOCHS, LABELS, OPENED, QUESTIONS, pasted_tasks

# %% [markdown]
# ## A class for every pixel
#
# **The question: does segmentation need more of the network than classification?** The rule of thumb says so:
# *pixel-level segmentation: fine-tune everything*.
#
# We paste one handwritten digit, 0 to 4, on each solar cell, dark where the cell is light and light where it is dark.
# Since we made the picture, the mask is exact. Then two questions about the same pictures: **which digit is it** (an
# answer a picture, a linear head on the pooled features), and **which pixels are the digit's** (an answer a pixel, a
# dense head that reads a stage of every size). Same backbone, {{ LABELS }} pictures, {{ EPOCHS }} passes, same plans:
# all frozen, the last four blocks open, everything open.

# %%
picture = pasted_tasks(seed=0)["picture"]
plots.show(
    plots.images_grid(picture.train.inputs[:6], licence="cells: CC BY-NC-SA 4.0"),
    alt="Six solar cells, each with one handwritten digit pasted on it.",
    colours=64,
)

# %% [markdown]
# Accuracy and overlap are different units, and who starts near the top cannot gain much. So we measure **the share of
# the remaining error that opening removes**: from a score of frozen `s` to one of `t`, that is `(t - s) / (1 - s)`. A
# score is balanced accuracy for pictures, and for pixels the intersection over union of the digits' pixels. Say first:
# which of the two questions gains more from opening everything?
#
# Written down before the runs:
#
# - opening everything removes **more than `0.1`** of what the frozen network leaves of the pixels' error;
# - it removes a greater share for pixels than for pictures: the difference is **above `0.1`**;
# - for pixels, everything is better than the last four blocks: the difference of shares is **above `0`**;
# - for pictures, everything is worth **less than `0.1`** more than the last four blocks.

# %%
answered = load_results(PIXELS)


def asked(question, opened, metric="score"):
    return answered.scores(metric, question=question, opened=opened)


def removed(question, opened):
    """Share of the error of the frozen network that opening removes."""
    frozen = asked(question, "frozen")
    return (asked(question, opened) - frozen) / (1 - frozen)


whole = {question: removed(question, "everything") for question in QUESTIONS}
last = {question: removed(question, "last 4 blocks") for question in QUESTIONS}
claim("Pixels: opening everything removes more than 0.1 of the error", whole["pixels"], above=0.1)
claim("Opening everything removes 0.1 more for pixels than for pictures", whole["pixels"] - whole["picture"], above=0.1)
claim("Pixels: everything is better than the last four blocks", whole["pixels"] - last["pixels"], above=0.0)
claim("Pictures: everything adds less than 0.1 to the last four blocks", whole["picture"] - last["picture"], below=0.1)

# %%
shares = {
    f"{question}: {opened}": removed(question, opened)
    for question in QUESTIONS
    for opened in OPENED
    if opened != "frozen"
}
plots.show(
    plots.differences(shares, bar=0.1, label="share of the frozen network's error that is removed"),
    alt="Share of the frozen network's error that opening removes, for the question about a picture and the one about "
    "its pixels, last four blocks and everything open, with 95 % intervals over seeds and a bar at 0.1.",
    colours=64,
)


# %%
def answers_table():
    lines = ["| opened | which digit: balanced accuracy | which pixels: overlap |", "|---|---|---|"]
    for opened in OPENED:
        cells = []
        for question in QUESTIONS:
            (low, high), mean = asked(question, opened).interval(), asked(question, opened).mean
            cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
        lines.append(f"| {opened} | {' | '.join(cells)} |")
    return "\n".join(lines)


# %% [markdown]
# {{ answers_table() }}
