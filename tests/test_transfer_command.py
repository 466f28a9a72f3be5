import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tlcourse import advice, transfer, trials
from tlcourse.__main__ import main
from tlcourse.data import Task
from tlcourse.saved_models import load_trained


def bright(seed, label):
    return np.random.default_rng(seed).normal(90 + 80 * label, 40, (64, 64, 3)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    for number in range(40):
        path = tmp_path / "data" / ("dark", "bright")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(bright(number, number % 2)).save(path)
    (tmp_path / "data" / "dark" / "broken.png").write_text("spoilt")
    return tmp_path / "data"


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    words = (("goal", "match", "team", "coach", "win"), ("bank", "shares", "profit", "rates", "debt"))
    with open(tmp_path / "texts.csv", "w", newline="") as file:
        rows = [[" ".join(rng.choice(words[n % 2], size=9)), ("sport", "money")[n % 2]] for n in range(40)]
        csv.writer(file).writerows([["text", "topic"], *rows])
    return tmp_path / "texts.csv"


@pytest.fixture
def small(monkeypatch, tiny_backbone, one_thread):
    """The command with a tiny backbone, one epoch a training, and costs that are the same everywhere."""
    from dataclasses import replace

    real = advice.recipes
    monkeypatch.setattr(
        trials, "recipes", lambda model: {name: replace(each, epochs=1) for name, each in real(model).items()}
    )
    monkeypatch.setattr(advice, "_seconds", lambda *_: 1.0)
    monkeypatch.setattr("tlcourse.zoo.load_backbone", lambda name, **_: tiny_backbone)


def test_a_folder_becomes_a_report_a_model_and_predictions(folder, small, tmp_path, capsys, tiny_backbone, monkeypatch):
    out = tmp_path / "out"
    assert main(["transfer", str(folder), "--out", str(out), "--size", "64", "--seeds", "3"]) == 0
    printed = capsys.readouterr().out
    assert "kept 40 of 41: bright 20, dark 20" in printed and "broken.png" in printed
    assert "advice from measurements" in printed and "chosen: " in printed
    assert (out / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")

    monkeypatch.setattr("tlcourse.saved_models.load_backbone", lambda name, pretrained: tiny_backbone)
    files = sorted(str(path) for path in folder.rglob("*.png"))
    assert main(["predict", str(out), *files]) == 1  # one file is broken
    told = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert [row["source"] for row in rows] == files and told.err.count("error:") == 1
    assert [row["source"] for row in rows if row["error"]] == [str(folder / "dark" / "broken.png")]
    assert np.mean([row["label"] in row["source"] for row in rows]) > 0.8

    assert main(["predict", str(out / "model"), files[0], "--out", str(tmp_path / "p.csv")]) == 0
    assert list(csv.DictReader((tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()))[0] == rows[0]


def test_a_second_call_computes_nothing_again(folder, small, tmp_path, capsys, monkeypatch):
    arguments = ["transfer", str(folder), "--out", str(tmp_path / "out"), "--size", "64", "--seeds", "3"]
    assert main(arguments) == 0
    first, page = capsys.readouterr().out, (tmp_path / "out" / "report.html").read_bytes()
    monkeypatch.setattr(trials, "train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(transfer, "advise", lambda *_, **__: pytest.fail("advised again"))
    assert main(arguments) == 0
    assert capsys.readouterr().out == first and (tmp_path / "out" / "report.html").read_bytes() == page
    assert main([*arguments, "--minutes", "7"]) == 1
    assert "holds another run (minutes differ)" in capsys.readouterr().err


# The arguments -> what the one line of the error says.
REFUSED = {
    "nothing there": (["nowhere"], "there is no nowhere"),
    "file without columns": (["{table}"], "is a file: name its columns with --text COLUMN --label COLUMN"),
    "one column": (["{table}", "--text", "text"], "texts need both columns"),
    "a folder of texts": (["{folder}", "--text", "a", "--label", "b"], "is a folder, and --text is for a CSV"),
    "both kinds": (["{table}", "--text", "a", "--label", "b", "--labels", "c"], "give one of them"),
    "missing column": (
        ["{table}", "--text", "words", "--label", "topic"],
        "no column 'words'; its columns are: 'text'",
    ),
    "size": (["{folder}", "--size", "50"], "size=50: images are resized to 64, 96, 224"),
    "seeds": (["{folder}", "--seeds", "1"], "seeds=1: at least 3 splits"),
    "backbone": (["{folder}", "--backbone", "resnet5000"], "no model 'resnet5000' in the zoo"),
    "text backbone": (["{folder}", "--backbone", "minilm"], "holds images, but backbone 'minilm' reads texts"),
    "image backbone": (
        ["{table}", "--text", "text", "--label", "topic", "--backbone", "efficientnet_lite0"],
        "holds texts, but backbone 'efficientnet_lite0' reads images",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_said_in_one_line(case, folder, table, tmp_path, capsys):
    arguments, message = REFUSED[case]
    filled = [argument.format(folder=folder, table=table) for argument in arguments]
    assert main(["transfer", *filled, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and message in said[0]


def test_predicting_without_a_model_is_said(tmp_path, capsys):
    assert main(["predict", str(tmp_path), "x.png"]) == 1
    assert "holds no model that `transfer` saved" in capsys.readouterr().err


def test_out_is_needed(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["transfer", str(folder)])
    assert ended.value.code == 2 and "--out" in capsys.readouterr().err


def test_the_test_split_is_the_audits_own(folder, small, tmp_path, monkeypatch):
    """The groups that the audit found reach the trials."""
    seen = []
    real = transfer.transfer

    def noting(task, backbone, out, *, groups, **options):
        assert isinstance(task, Task)
        seen.append(len(groups))
        return real(task, backbone, out, groups=groups, **options)

    monkeypatch.setattr(transfer, "transfer", noting)
    assert main(["transfer", str(folder), "--out", str(tmp_path / "o"), "--size", "64", "--seeds", "3"]) == 0
    assert seen == [40]


@pytest.mark.slow
def test_texts_on_the_real_backbone_offline(table, tmp_path, capsys):
    arguments = ["transfer", str(table), "--text", "text", "--label", "topic", "--max-length", "16"]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--seeds", "3", "--minutes", "0"]) == 0
    assert "chosen: probe" in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "out"), str(table)]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["source"] for row in rows] == [f"{table}, row {n}" for n in range(2, 42)]
    assert np.mean([row["label"] == ("sport", "money")[n % 2] for n, row in enumerate(rows)]) > 0.95
    saved = load_trained(tmp_path / "out")
    assert saved.card["backbone"] == "minilm" and saved.card["preprocessing"]["max_length"] == 16


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(folder, tmp_path):
    """Killed without warning after its first trial; the second call keeps what was finished."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tlcourse", "transfer", str(folder), "--out", str(out)]
    command += ["--size", "64", "--seeds", "3", "--minutes", "30"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TLCOURSE_PROGRESS": "0"}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 200
    while not list(out.glob("runs/*.json")) and running.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert running.poll() is None, running.stderr.read()
    running.send_signal(signal.SIGKILL)
    running.communicate()
    finished = {path: path.read_bytes() for path in out.glob("runs/*.json")}
    assert finished and not (out / "result.json").exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(path.read_bytes() == data for path, data in finished.items())
    assert len(json.loads((out / "result.json").read_text())["trials"]) == 9
