"""How much faster training is on the kept output of the frozen stages.

Twenty epochs on 400 solar cells of 96 px with validation after each, EfficientNet-Lite0 with every stage but the head
frozen, building the cache included: at least 10 times faster than running the prefix for every batch.

    python benchmarks/cache.py
"""

import sys
import time

from tlcourse import attach_head, feature_extraction, load_backbone, load_task, train

EPOCHS, LABELS, SIZE = 20, 400, 96
BAR = 10


def main() -> int:
    """Time both; 0 where the bar is reached."""
    task = load_task("solar", labels=LABELS, size=SIZE)
    backbone = load_backbone("efficientnet_lite0")
    seconds, losses = {}, {}
    for cache in (True, False):
        model = attach_head(backbone, task)
        plan = feature_extraction(model)
        train(model, task, plan, epochs=1, cache=cache, progress=False)  # the first run finds its kernels
        model = attach_head(backbone, task)
        start = time.perf_counter()
        history = train(model, task, plan, epochs=EPOCHS, cache=cache, progress=False)
        seconds[cache], losses[cache] = time.perf_counter() - start, history.train_loss
    ratio = seconds[False] / seconds[True]
    gap = max(abs(a - b) for a, b in zip(losses[True], losses[False], strict=True))
    print(f"{EPOCHS} epochs, {LABELS} images of {SIZE} px, validation on {len(task.val)} each")
    print(f"  kept    {seconds[True]:8.2f} s, building included")
    print(f"  direct  {seconds[False]:8.2f} s")
    print(f"  {ratio:.1f} times faster (bar: {BAR}); losses differ by {gap:.1e} at most")
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
