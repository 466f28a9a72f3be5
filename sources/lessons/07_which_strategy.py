# %% [markdown]
# # 07 · Which strategy?

# %%
# Written before the kept points were run, on what seeds 100 and 101 had shown; judged on seeds 0 to 4.
claim("30 labels, the source's own kind of pictures: a probe beats training from scratch by more than 0.3",
      at("probe", 0.0, 30) - at("from scratch", 0.0, 30), above=0.3)
claim("30 labels, half-way away: the last two stages beat the probe by more than 0.05",
      at("last 2 stages", 0.5, 30) - at("probe", 0.5, 30), above=0.05)
claim("100 labels, half-way away: the last two stages beat the probe by more than 0.1",
      at("last 2 stages", 0.5, 100) - at("probe", 0.5, 100), above=0.1)
claim("100 labels, half-way away: the last two stages beat full fine-tuning by more than 0.03",
      at("last 2 stages", 0.5, 100) - at("full fine-tuning", 0.5, 100), above=0.03)
claim("3,000 labels, half-way away: the last two stages are less than 0.02 ahead of full fine-tuning",
      at("last 2 stages", 0.5, 3000) - at("full fine-tuning", 0.5, 3000), below=0.02)
# distance
claim("300 labels: what the probe lacks to full fine-tuning grows by more than 0.05 from distance 0 to 0.5",
      (at("full fine-tuning", 0.5, 300) - at("probe", 0.5, 300)) - (at("full fine-tuning", 0.0, 300) - at("probe", 0.0, 300)), above=0.05)
claim("distance 1, 3,000 labels: training from scratch beats the probe by more than 0.5",
      at("from scratch", 1.0, 3000) - at("probe", 1.0, 3000), above=0.5)
claim("distance 1, 300 labels: full fine-tuning from the source's weights falls short of training from scratch by more than 0.02",
      at("from scratch", 1.0, 300) - at("full fine-tuning", 1.0, 300), above=0.02)
claim("distance 1, 3,000 labels, five times as long: full fine-tuning and scratch differ by less than 0.02 (scratch ahead by less)",
      longer("from scratch", 3000) - longer("full fine-tuning", 3000), below=0.02)
claim("from scratch, 3,000 labels: distance 1 is easier than distance 0 by less than 0.05",
      at("from scratch", 1.0, 3000) - at("from scratch", 0.0, 3000), below=0.05)
claim("from scratch, 3,000 labels: distance 1 is harder than distance 0 by less than 0.05",
      at("from scratch", 0.0, 3000) - at("from scratch", 1.0, 3000), below=0.05)
# classes
claim("1,000 labels, half-way: with two classes the probe lacks less than with six, by more than 0.02",
      (at("full fine-tuning", 0.5, 1000) - at("probe", 0.5, 1000)) - (pair("full fine-tuning", 1000) - pair("probe", 1000)), above=0.02)
# distance measured
claim("the squared discrepancy at distance 1 exceeds that at 0.5 by more than 0.05", apart("mmd", 1.0) - apart("mmd", 0.5), above=0.05)
claim("and at 0.5 that at 0 by more than 0.02", apart("mmd", 0.5) - apart("mmd", 0.0), above=0.02)
# advisors, on cells left out, described by the logarithm of the labels and the square root of the measured discrepancy
for name in STRATEGIES: claim(f"the measured advisor's regret is below that of always {name}", regret(always) - regret(measured), above=0.0)
claim("the measured advisor's regret is below that of the rules of thumb", regret(rules) - regret(measured), above=0.0)

# Digits, on what seed 100 had shown; judged on seeds 0 to 4.
claim("50 digits: the last two stages beat the probe by more than 0.05", digit("last 2 stages", 50) - digit("probe", 50), above=0.05)
claim("2,000 digits: full fine-tuning beats the probe by more than 0.1", digit("full fine-tuning", 2000) - digit("probe", 2000), above=0.1)
claim("2,000 digits: full fine-tuning is ahead of the last two stages by less than 0.03", digit("full fine-tuning", 2000) - digit("last 2 stages", 2000), below=0.03)
claim("2,000 digits, 3,000 images: from scratch is behind full fine-tuning by more than 0.2", digit("full fine-tuning", 2000) - digit("from scratch", 2000), above=0.2)
