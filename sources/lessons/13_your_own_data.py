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
# # 13 · Your own data
#
# **The question: you have a folder of images, or a table of texts. What do you do, in which order, and what may you say
# about the model that comes out?**

# %%
from tlcourse import claim

# %% [markdown]
# Written down before the run, about sets of 500 and the samples beside them. The *regret* of a choice is what the best
# of the three models of this set scores on the samples beside it, minus what the chosen one scores there:
#
# - on cells, the mean regret of `transfer`'s choice is **below `0.02`** of balanced accuracy, and on texts too;
# - on cells, its choice scores **above** that of the rules of thumb alone.
#
# About the traps:
#
# - where near-duplicates stand on both sides, the test says **more than `0.05`** too much;
# - where the audit's groups stay together, it says **less than `0.02`** too much;
# - the best of 50 candidates by their score on the test looks **more than `0.02`** better than it is on fresh data.
