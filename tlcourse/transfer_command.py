"""``python -m tlcourse transfer`` and ``predict``: a learner's data in; a report, a model and predictions out."""

import argparse
import sys
from pathlib import Path

__all__ = ["add_predict", "add_transfer", "predict", "run"]


def add_transfer(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``transfer``."""
    parser.add_argument("data", type=Path, help="a folder of images, one sub-folder a class; or a CSV of texts")
    parser.add_argument(
        "--out", type=Path, required=True, help="report and model; a run that was cut off goes on there"
    )
    parser.add_argument(
        "--labels", type=Path, metavar="CSV", help="images: columns file and label, in place of folders"
    )
    parser.add_argument("--text", metavar="COLUMN", help="texts: the column that holds them")
    parser.add_argument("--label", metavar="COLUMN", help="texts: the column of labels")
    parser.add_argument(
        "--backbone",
        help="of the zoo, or a folder with one; default: efficientnet_lite0 for images, minilm for texts",
    )
    parser.add_argument("--size", type=int, default=96, help="images: side in pixels, 64, 96 or 224 (default: 96)")
    parser.add_argument("--max-length", type=int, default=64, help="texts: longest in tokens (default: 64)")
    parser.add_argument("--seeds", type=int, default=5, help="splits to try each strategy on (default: 5)")
    parser.add_argument("--minutes", type=float, default=2.0, help="for pilot, trials and training (default: 2)")


def add_predict(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``predict``."""
    parser.add_argument("model", type=Path, help="the folder that transfer wrote")
    parser.add_argument("files", nargs="+", type=Path, help="images; or CSV files with the column of texts")
    parser.add_argument("--out", type=Path, metavar="CSV", help="default: print")


def run(options: argparse.Namespace) -> int:
    """Audit, advise, try, choose, train, report.

    Returns
    -------
    The exit status: 0, or 1 where something is wrong with the data, an option or the folder.
    """
    from tlcourse.own_data import load_images, load_texts
    from tlcourse.saved_models import write_whole
    from tlcourse.transfer import transfer
    from tlcourse.transfer_report import report
    from tlcourse.zoo import load_backbone

    try:
        texts = _holds_texts(options)
        backbone = load_backbone(options.backbone or ("minilm" if texts else "efficientnet_lite0"))
        if texts:
            columns = {"text": options.text, "label": options.label}
            task, audit = load_texts(options.data, **columns, backbone=backbone, max_length=options.max_length)
        else:
            task, audit = load_images(options.data, labels=options.labels, size=options.size)
        print(audit)
        outcome = transfer(
            task, backbone, options.out, groups=audit.groups, seeds=options.seeds, minutes=options.minutes
        )
        command = f"python -m tlcourse predict {options.out} FILE..."
        page = report(outcome, task, audit, backbone=backbone.name, command=command)
        write_whole(options.out / "report.html", page.encode())
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        return _refused(error)
    print(outcome.advice)
    print(f"chosen: {outcome.chosen}; balanced accuracy on the test split {outcome.test_interval}")
    print(f"report: {options.out / 'report.html'}; to use the model: {command}")
    return 0


def predict(options: argparse.Namespace) -> int:
    """Predictions as a CSV, on standard output or in a file; 1 where a file could not be read."""
    from tlcourse.saved_models import load_trained, predict_files, write_predictions

    try:
        saved = load_trained(options.model)
        rows = predict_files(saved, options.files)
        if options.out is None:
            write_predictions(rows, sys.stdout, class_names=saved.class_names)
        else:
            with open(options.out, "w", encoding="utf-8", newline="") as file:
                write_predictions(rows, file, class_names=saved.class_names)
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        return _refused(error)
    failed = [row for row in rows if row["error"]]
    for row in failed:
        print(f"error: {row['source']}: {row['error']}", file=sys.stderr)
    return 1 if failed else 0


def _holds_texts(options: argparse.Namespace) -> bool:
    """Whether the data are texts, by what they are and by what was asked for."""
    wants_texts = options.text is not None or options.label is not None
    if wants_texts and (options.text is None or options.label is None):
        raise ValueError("texts need both columns: --text COLUMN --label COLUMN")
    if wants_texts and options.labels is not None:
        raise ValueError("--labels is for a folder of images, --text and --label for a CSV of texts: give one of them")
    if not options.data.exists():
        raise ValueError(f"there is no {options.data}")
    if options.data.is_file() and not wants_texts:
        raise ValueError(f"{options.data} is a file: name its columns with --text COLUMN --label COLUMN")
    if options.data.is_dir() and wants_texts:
        raise ValueError(f"{options.data} is a folder, and --text is for a CSV")
    return wants_texts


def _refused(error: Exception) -> int:
    said = error.args[0] if isinstance(error, KeyError) else error  # a KeyError prints its text in quotes
    print(f"error: {said}", file=sys.stderr)
    return 1
