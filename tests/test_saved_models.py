import csv
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from tlcourse import attach_head, extract_features, fit_probe, make_task
from tlcourse.evaluation import predict_probabilities
from tlcourse.saved_models import (
    load_trained,
    predict_files,
    save_trained,
    write_predictions,
    write_whole,
)
from tlcourse.trials import set_head


def bright(seed, label):
    return np.random.default_rng(seed).normal(90 + 80 * label, 30, (64, 64, 3)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def task():
    images = torch.from_numpy(np.stack([bright(n, n % 2) for n in range(30)])).permute(0, 3, 1, 2)
    names = ("dark", "=bright, 'really'")  # a name that a CSV has to quote
    return make_task("images", images, torch.arange(30) % 2, class_names=names, options={"size": 64})


@pytest.fixture
def model(task, tiny_backbone):
    model = attach_head(tiny_backbone, task)
    features = extract_features(model, task.train.inputs)
    set_head(model, fit_probe(features, task.train.labels, strengths=(0.1,)))
    return model


@pytest.fixture
def files(tmp_path):
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(bright(number, number % 2)).save(paths[-1])
    return paths


def test_predictions_from_disk_are_those_of_the_process(model, task, tiny_backbone, files, tmp_path):
    save_trained(tmp_path / "out" / "model", model, task, strategy="probe")
    saved = load_trained(tmp_path / "out", backbone=tiny_backbone)
    assert torch.equal(
        predict_probabilities(saved.model, task.test.inputs), predict_probabilities(model, task.test.inputs)
    )
    inputs = torch.stack([torch.from_numpy(bright(n, n % 2)).permute(2, 0, 1) for n in range(5)])
    expected = predict_probabilities(model, inputs)
    rows = predict_files(saved, files)
    assert [row["source"] for row in rows] == list(map(str, files))
    for row, each in zip(rows, expected, strict=True):
        assert row["label"] == task.class_names[int(each.argmax())] and row["error"] == ""
        assert row["probability"] == f"{each.max():.6f}" and row["p(dark)"] == f"{each[0]:.6f}"


def test_the_loaded_backbone_keeps_nothing_of_what_it_was(model, task, tiny_backbone, tmp_path):
    """All weights come from the file: a backbone that was drawn anew gives the same."""
    save_trained(tmp_path, model, task, strategy="probe")
    other = attach_head(tiny_backbone, task).backbone
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_()
    before = next(other.parameters()).clone()
    saved = load_trained(tmp_path, backbone=other)
    assert torch.equal(next(other.parameters()), before)
    assert torch.equal(
        predict_probabilities(saved.model, task.test.inputs), predict_probabilities(model, task.test.inputs)
    )
    assert not saved.model.training


def test_what_cannot_be_read_is_said_and_the_rest_is_predicted(model, task, tiny_backbone, files, tmp_path):
    save_trained(tmp_path, model, task, strategy="probe")
    saved = load_trained(tmp_path, backbone=tiny_backbone)
    files[2].write_text("spoilt")
    rows = predict_files(saved, [*files, tmp_path / "gone.png"])
    assert [bool(row["error"]) for row in rows] == [False, False, True, False, False, True]
    assert "no such file" in rows[-1]["error"] and "label" not in rows[2]
    assert rows[3]["label"] == task.class_names[1]
    text = io.StringIO()
    write_predictions(rows, text, class_names=saved.class_names)
    again = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert len(again) == 6 and again[3]["label"] == task.class_names[1] and again[2]["probability"] == ""
    assert set(again[0]) == {"source", "label", "probability", "error", "p(dark)", "p(=bright, 'really')"}
    assert predict_files(saved, [tmp_path / "gone.png"])[0]["error"]


def test_the_card_says_what_is_needed(model, task, tmp_path):
    save_trained(tmp_path, model, task, strategy="last 2 stages", seed=3)
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["backbone"] == "tiny" and card["classes"] == list(task.class_names) and card["seed"] == 3
    assert card["preprocessing"] == {"modality": "image", "size": 64, "mean": [0.5] * 3, "std": [0.5] * 3}
    assert {"tlcourse", "torch"} <= card["versions"].keys() and card["strategy"] == "last 2 stages"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def altered(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def changed(**values):
    def change(folder):
        card = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(card | values))

    return change


DAMAGE = {
    "altered weights": (altered, "is not the file that model.json belongs to"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds no model"),
    "no card": (lambda folder: (folder / "model.json").unlink(), "holds no model"),
    "half a card": (lambda folder: (folder / "model.json").write_text('{"format": 1'), "holds no model"),
    "another format": (changed(format=2), "is of format 2, and this version reads 1"),
    "another head": (changed(classes=["a", "b", "c"]), "does not fit the backbone 'tiny'"),
    "another scale": (
        changed(preprocessing={"modality": "image", "size": 64, "mean": [0.4] * 3, "std": [0.5] * 3}),
        "prepared otherwise",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_model_is_refused(case, model, task, tiny_backbone, tmp_path):
    save_trained(tmp_path, model, task, strategy="probe")
    damage, message = DAMAGE[case]
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_trained(tmp_path, backbone=tiny_backbone)


def test_texts_make_the_same_trip(lines, minilm, tmp_path):
    from dataclasses import replace

    task = replace(lines, options={"max_length": 32, "text": "said", "label": "kind"})
    model = attach_head(minilm, task)
    save_trained(tmp_path / "model", model, task, strategy="probe")
    texts = ["goal match team", "bank shares  profit rates debt bank", "win"]
    with open(tmp_path / "new.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", "said"], *[[n, text] for n, text in enumerate(texts)]])
    saved = load_trained(tmp_path)
    rows = predict_files(saved, [tmp_path / "new.csv"])
    tokens = minilm.preprocessing.tokenize([" ".join(text.split()) for text in texts], max_length=32)
    expected = predict_probabilities(model, tokens)
    assert [row["source"] for row in rows] == [f"{tmp_path / 'new.csv'}, row {n}" for n in (2, 3, 4)]
    for row, each in zip(rows, expected, strict=True):
        assert row["label"] == task.class_names[int(each.argmax())]
        assert float(row["p(sport)"]) == pytest.approx(float(each[0]), abs=2e-6)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    write_whole(tmp_path / "x", b"before")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_whole(tmp_path / "x", b"after")
    assert (tmp_path / "x").read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1
