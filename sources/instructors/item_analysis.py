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
# # For instructors · What the submissions say about the tasks
#
# You have graded an assignment with `python -m tlcourse grade SUBMISSIONS --assignment 00 --out graded`. This notebook
# reads that folder and looks at the *tasks*: how hard each was, whether it tells learners apart, and which mistake was
# the commonest. It changes nothing and sends nothing anywhere; what it shows is about a class, and names no learner.
#
# Set the folder in the next cell, then run all cells.

# %%
from pathlib import Path

import numpy as np

from tlcourse import plots
from tlcourse.figures import INK, MEASURED, new_axes
from tlcourse.grading.items import analyse, as_text, read_efforts, read_results, totals

FOLDER = Path("graded")  # what you gave to --out
CERTIFICATES = Path("certificates")  # certificates that learners handed in; need not be there

# %%
batch = read_results(FOLDER)
items, shares = analyse(batch), totals(batch)
left_out = len(batch["submissions"]) - len(shares)
print(f"{batch['title']}: {len(shares)} submissions; {left_out} more could not be read and are left out")

# %% [markdown]
# ## Task by task
#
# - **difficulty** is the mean share of the task's points, counting what was not tried as nought. As is the custom, a
#   *high* one is that of an easy task. Near one, everybody can do it already; near zero, look at the statement first.
# - **discrimination** is the correlation of a task's points with the points of *all other* tasks. A good task is done
#   better by those who do the others better. Near zero, it asks for something else; below zero, learners who know more
#   do worse, which is mostly a statement that can be read in two ways. "-" stands where it is not defined: fewer than
#   three submissions, or no spread.
# - the **commonest misconception** is the known wrong way that was recognised most often. If half of the class goes the
#   same way, teach that again.
#
# The grader sees the last answer alone. How often somebody tried, and how many hints were opened, is kept in each
# learner's own folder. It is in the table where certificates were handed in, for what was passed; anybody can edit such
# a file. Time is measured nowhere.

# %%
efforts = read_efforts(sorted(CERTIFICATES.glob("*.json")))
print(as_text(items, efforts))

# %% [markdown]
# ## All misconceptions that were recognised

# %%
for item in items:
    for name, count in item.misconceptions:
        print(f"{item.task}  {count} of {item.tried}  {name}")

# %% [markdown]
# ## The distribution of scores
#
# Two hills are often two groups: those who did the lesson first, and those who did not. A wall at the right end says
# that the assignment does not tell the best apart, which for exercises is no fault.

# %%
if shares:
    ax = plots.histogram(shares, label="share of all points", counted="submissions", bins=np.linspace(0, 1, 11))
    plots.show(ax, alt="How many submissions got which share of all points, in ten steps, with the mean marked.")

# %% [markdown]
# ## Hard, and telling apart
#
# A task at the lower right is easy and tells nobody apart; one at the left is hard. With n submissions, a correlation
# of two things that have nothing to do with each other still strays by about one over the root of n to either side: the
# shaded band reaches twice as far. In a class of twenty, nearly everything may be inside of it.

# %%
placed = [item for item in items if item.discrimination is not None]
if placed:
    ax = new_axes()
    band = 2 / np.sqrt(placed[0].n)
    ax.axhspan(-band, band, color=INK, alpha=0.08, linewidth=0)
    ax.axhline(0, color=INK, linewidth=1)
    ax.plot([item.difficulty for item in placed], [item.discrimination for item in placed], "o", color=MEASURED)
    for item in placed:
        ax.annotate(item.task, (item.difficulty, item.discrimination), xytext=(6, 4), textcoords="offset points")
    ax.set(
        xlabel="difficulty (mean share of the points; right is easy)",
        ylabel="discrimination",
        xlim=(0, 1),
        ylim=(-1, 1),
    )
    plots.show(
        ax,
        alt="A point for each task: to the right how easy it was, upwards how far its points go along with those of "
        "the other tasks. A band around zero holds what chance alone could do.",
    )
