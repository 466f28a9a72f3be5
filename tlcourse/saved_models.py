"""A trained model on disk, with all that is needed to use it again: safetensors and a card. Lesson 13 uses it.

The card names the backbone, the classes, how inputs are prepared, the versions, and the hash of the weights, which is
checked before they are loaded. A probe is saved as the linear head that it is.
"""

import copy
import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from tlcourse.backbones import Backbone, Model
from tlcourse.data import Task
from tlcourse.evaluation import predict_probabilities
from tlcourse.own_data import read_image, read_rows
from tlcourse.runtime import pick_device
from tlcourse.zoo import load_backbone

__all__ = [
    "SavedModel",
    "load_trained",
    "predict_files",
    "save_trained",
    "write_predictions",
    "write_whole",
]

WEIGHTS, CARD = "model.safetensors", "model.json"
FORMAT = 1
PACKAGES = ("torch", "transformers", "timm", "safetensors")


@dataclass(frozen=True)
class SavedModel:
    """A model that was loaded, in eval mode, and its card."""

    model: Model
    card: dict

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.card["classes"])


def save_trained(folder: str | Path, model: Model, task: Task, *, strategy: str, seed: int = 0) -> None:
    """Write the weights and the card, each whole or not at all, the card last.

    Parameters
    ----------
    folder
        Where to; made if it is not there.
    strategy, seed
        How it was trained, for the card.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    from safetensors.torch import save

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = save({name: tensor.detach().contiguous().clone() for name, tensor in model.state_dict().items()})
    write_whole(folder / WEIGHTS, data)
    reads = model.backbone.preprocessing
    prepared = {"modality": reads.modality, **task.options}
    if reads.modality == "image":
        prepared |= {"mean": list(reads.mean), "std": list(reads.std)}
    else:
        prepared |= {"tokenizer": reads.name}
    card = {
        "format": FORMAT,
        "backbone": model.backbone.name,
        "head": model.head_name(None),
        "classes": list(task.class_names),
        "preprocessing": prepared,
        "strategy": strategy,
        "seed": seed,
        "feature_dim": model.backbone.feature_dim,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sha256": hashlib.sha256(data).hexdigest(),
        "versions": {"tlcourse": _own_version(), **{name: version(name) for name in PACKAGES}},
    }
    write_whole(folder / CARD, json.dumps(card, indent=1, ensure_ascii=False).encode())


def load_trained(folder: str | Path, *, backbone: Backbone | None = None) -> SavedModel:
    """The model that `save_trained` wrote, on the device that there is.

    Parameters
    ----------
    folder
        The model's folder, or the folder of `transfer` that it is in.
    backbone
        A network with the stages of the one that was trained; a copy takes the weights. Default: by its name.

    Raises
    ------
    ValueError
        If there is no such model, it is of another format, its weights were altered, or the backbone is another one.
    KeyError, RuntimeError
        If the backbone has to be loaded by its name, and there is none or it cannot be fetched.
    """
    from safetensors.torch import load

    folder = Path(folder)
    folder = folder / "model" if (folder / "model" / CARD).is_file() else folder
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        data = (folder / WEIGHTS).read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} holds no model that `transfer` saved ({error})") from error
    if card.get("format") != FORMAT:
        raise ValueError(f"{folder} is of format {card.get('format')}, and this version reads {FORMAT}")
    if hashlib.sha256(data).hexdigest() != card["sha256"]:
        raise ValueError(f"{folder / WEIGHTS} is not the file that {CARD} belongs to: it was altered or cut off")
    backbone = copy.deepcopy(backbone) if backbone else load_backbone(card["backbone"], pretrained=False)
    model = Model(backbone)
    model.add_head(card["head"], len(card["classes"]))
    try:
        model.load_state_dict(load(data))
    except RuntimeError as error:
        raise ValueError(f"{folder} does not fit the backbone {backbone.name!r}: {error}") from error
    reads, prepared = backbone.preprocessing, card["preprocessing"]
    same = [list(reads.mean), list(reads.std)] == [prepared["mean"], prepared["std"]] if "mean" in prepared else True
    if reads.modality != prepared["modality"] or not same:
        raise ValueError(f"{folder} was trained on inputs prepared otherwise ({prepared}) than {backbone.name!r} does")
    return SavedModel(model.to(pick_device()).eval(), card)


def predict_files(saved: SavedModel, files: Sequence[str | Path]) -> list[dict[str, str]]:
    """One row a sample: ``source``, ``label``, ``probability`` of it, ``error``, and a probability for each class.

    Parameters
    ----------
    files
        Images; or CSV files with the column of texts that the model was trained on. What cannot be read has an
        ``error`` and nothing else.
    """
    sources, contents, errors = [], [], {}
    prepared = saved.card["preprocessing"]
    for file in files:
        try:
            if prepared["modality"] == "image":
                contents.append(read_image(file, size=prepared["size"]))
                sources.append(str(file))
            else:
                rows = read_rows(file, (prepared["text"],))
                contents += [" ".join(row[prepared["text"]].split()) for _, row in rows]
                sources += [f"{file}, {row}" for row, _ in rows]
        except ValueError as error:
            errors[str(file)] = str(error)
            sources.append(str(file))
    found = iter(_probabilities(saved, contents).tolist())
    return [_row(source, errors.get(source), found, saved.class_names) for source in sources]


def write_predictions(rows: Iterable[dict[str, str]], file: TextIO, *, class_names: Sequence[str]) -> None:
    """Write the rows of `predict_files` as a CSV with a header."""
    names = ["source", "label", "probability", "error", *(f"p({name})" for name in class_names)]
    writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def write_whole(path: Path, data: bytes) -> None:
    """Write beside the place, then move there: a reader sees the file before or the new one whole.

    Raises
    ------
    OSError
        If it cannot be written; nothing is left behind.

    Examples
    --------
    >>> path = Path(tempfile.mkdtemp()) / "x"
    >>> write_whole(path, b"text")
    >>> path.read_bytes(), len(list(path.parent.iterdir()))
    (b'text', 1)
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)  # mkstemp's own is for one user alone
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)  # gone already where all went well


def _probabilities(saved: SavedModel, contents: list) -> Tensor:
    if not contents:
        return torch.empty(0, len(saved.class_names))
    prepared = saved.card["preprocessing"]
    if prepared["modality"] == "image":
        inputs = torch.stack(contents)
    else:
        inputs = saved.model.backbone.preprocessing.tokenize(contents, max_length=prepared["max_length"])
    return predict_probabilities(saved.model, inputs)


def _row(source: str, error: str | None, found: Iterable, class_names: Sequence[str]) -> dict[str, str]:
    if error is not None:
        return {"source": source, "error": error}
    values = next(found)
    best = max(range(len(values)), key=values.__getitem__)
    each = {f"p({name})": f"{value:.6f}" for name, value in zip(class_names, values, strict=True)}
    return {"source": source, "label": class_names[best], "probability": f"{values[best]:.6f}", "error": "", **each}


def _own_version() -> str:
    import tlcourse

    return tlcourse.__version__
