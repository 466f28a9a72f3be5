"""Draw ``docs/learning_curve.png``, the picture in the README, from the kept results of lesson 01.

    python -m tools.readme_picture

The file carries the checksum of the points that it was drawn from; a test compares it with the points that are there.
"""

import hashlib
import json
from pathlib import Path

from tlcourse.experiments.lesson01 import LEARNING_CURVE
from tlcourse.results import Kept, load_results, results_folder

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "learning_curve.png"
MARK = "Source"  # a text field of the PNG
STRATEGIES = ("full fine-tuning", "probe", "random features", "from scratch")


def curves(kept: Kept) -> dict:
    """Strategy -> labels -> AUC over seeds, as `tlcourse.plots.learning_curve` takes it."""
    settings = [dict(setting) for setting in LEARNING_CURVE.settings]
    return {
        strategy: {s["labels"]: kept.scores("auc", **s) for s in settings if s["strategy"] == strategy}
        for strategy in STRATEGIES
    }


def mark(folder: Path | None = None) -> str:
    """What the picture says about the results in this folder: their file and the SHA-256 of its points."""
    file = (folder or results_folder()) / f"{LEARNING_CURVE.name}.json"
    points = json.dumps(json.loads(file.read_text(encoding="utf-8"))["points"], sort_keys=True)
    return f"results/{file.name} {hashlib.sha256(points.encode()).hexdigest()}"


def draw(path: Path = PICTURE, folder: Path | None = None) -> None:
    """Draw the kept learning curves and mark the file with what it was drawn from."""
    import matplotlib

    matplotlib.use("Agg")
    from tlcourse import plots

    ax = plots.learning_curve(curves(load_results(LEARNING_CURVE, folder)), metric="AUC on the test split")
    seeds = len(LEARNING_CURVE.seeds)
    ax.set_title(f"Solar cells, 64 px: mean and 95 % interval over {seeds} seeds")
    path.parent.mkdir(exist_ok=True)
    ax.figure.savefig(path, dpi=100, metadata={MARK: mark(folder)})


if __name__ == "__main__":
    draw()
    print(f"drawn: {PICTURE.relative_to(Path.cwd()) if PICTURE.is_relative_to(Path.cwd()) else PICTURE}")
