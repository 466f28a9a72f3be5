"""Kept results: resumable, never mixed, refused when stale, and checked by a live point."""

import hashlib
import itertools
import json
import math

import pytest

from tlcourse import results
from tlcourse.results import Experiment, RerunDisagrees, StaleResults, load_results, make_results

SEEDS = (0, 1, 2, 3, 4)
SETTINGS = (
    {"strategy": "probe", "labels": 50},
    {"strategy": "probe", "labels": 200},
    {"strategy": "scratch", "labels": 50},
)
NOISE = (0.011, -0.004, 0.007, -0.013, 0.002)
PLACES = [
    # what a forger does to the list of points, what the error says
    (lambda points: points.pop(), "1 of 15 points are missing"),
    (lambda points: points.append(points[3]), "twice"),
    (lambda points: points[3]["scores"].update(auc=math.nan), "not finite"),
    (lambda points: points[3]["scores"].clear(), "missing or not finite"),
    (lambda points: points[3]["scores"].pop("gap"), "other metrics"),
    (lambda points: points.append({**points[0], "seed": 9}), "nobody asked for"),
]


def score(seed, strategy, labels):
    auc = 0.7 + 0.1 * (strategy == "probe") + labels / 10_000 + NOISE[seed]
    return {"auc": auc, "gap": 1 - auc, "seconds": 3.0}


@pytest.fixture(autouse=True)
def hashes(monkeypatch):
    """Stand-ins: the test's own functions are no module of the course."""
    now = {"code": "c" * 64, "data": "d" * 64}
    monkeypatch.setattr(results, "code_hash", lambda module: now["code"])
    monkeypatch.setattr(results, "data_hash", lambda roles: now["data"])
    return now


def experiment(run=score, **changes):
    return Experiment(
        **{"name": "curves", "run": run, "settings": SETTINGS, "seeds": SEEDS, "data": ("solar",), **changes}
    )


def make(folder, **changes):
    return make_results(experiment(**changes), folder, progress=False)


def forge(folder, change, checksum=True):
    """Alter the file's content, and its checksum with it."""
    path = folder / "curves.json"
    content = json.loads(path.read_text())
    old = content.pop("checksum")
    change(content)
    new = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**content, "checksum": new if checksum else old}))


def test_make_and_load(tmp_path):
    kept = make(tmp_path)
    probe = kept.scores("auc", strategy="probe", labels=50)
    assert probe.seeds == SEEDS
    assert probe.values == pytest.approx([score(seed, "probe", 50)["auc"] for seed in SEEDS], rel=1e-6)
    assert (probe - kept.scores("auc", strategy="scratch")).mean == pytest.approx(0.1)
    assert len(kept.points()) == 15
    assert [point["seed"] for point in kept.points(labels=200)] == list(SEEDS)
    assert load_results(experiment(), tmp_path) == kept


def test_provenance_is_kept(tmp_path):
    (maker,) = make(tmp_path).made_by
    assert maker["device"].startswith(("cpu", "cuda", "mps"))
    assert maker["threads"] >= 1
    assert {"python", "torch", "numpy"} <= set(maker["versions"])
    content = json.loads((tmp_path / "curves.json").read_text())
    assert content["module"] == __name__


def test_same_text_whatever_the_interruptions(tmp_path):
    make(tmp_path)
    whole = (tmp_path / "curves.json").read_text()
    calls = []

    def interrupted(seed, **setting):
        calls.append((seed, tuple(setting.values())))
        if len(calls) % 4 == 0:
            raise KeyboardInterrupt
        return score(seed, **setting)

    (tmp_path / "curves.json").unlink()
    interruptions = 0
    while True:
        try:
            make(tmp_path, run=interrupted)
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions >= 3
    assert len(calls) == 15 + interruptions  # only the interrupted points were run twice
    assert (tmp_path / "curves.json").read_text() == whole


def test_nothing_runs_twice(tmp_path):
    make(tmp_path)

    def never(seed, **setting):
        raise AssertionError("it is kept already")

    assert len(make(tmp_path, run=never).points()) == 15


def test_another_machine_is_named_beside_its_points(tmp_path, monkeypatch):
    make(tmp_path)
    forge(tmp_path, lambda content: content["points"].pop())
    here = results.surroundings()
    monkeypatch.setattr(results, "surroundings", lambda: {**here, "device": "cuda: another card"})
    kept = make(tmp_path)
    assert [maker["device"] for maker in kept.made_by] == [here["device"], "cuda: another card"]
    assert [point["made_by"] for point in kept.points()].count(1) == 1


def change_code(folder, hashes, change=None, **options):
    """Make the results, change the code, make them again; what ran the second time."""
    make(folder)
    hashes["code"] = "e" * 64
    with pytest.raises(StaleResults, match="the code behind it has changed"):
        load_results(experiment(), folder)
    ran = []

    def run(seed, **setting):
        ran.append((seed, *setting.values()))
        scores = score(seed, **setting)
        return change(scores) if change else scores

    make(folder, run=run, **options)
    return ran


def test_code_that_gives_the_same_scores_keeps_the_points(tmp_path, hashes):
    seconds = itertools.count()
    ran = change_code(tmp_path, hashes, lambda scores: {**scores, "seconds": next(seconds)})
    assert sorted(place[1:] for place in ran) == sorted(tuple(setting.values()) for setting in SETTINGS)  # one of each
    assert [seed for seed, *_ in ran] == sorted(seed for seed, *_ in ran)  # points of one seed may share work
    content = json.loads((tmp_path / "curves.json").read_text())
    assert content["carried"] == [
        {
            "from": "c" * 64,
            "to": "e" * 64,
            "points": 15,
            "again": [f"strategy={strategy}, labels={labels}, seed {seed}" for seed, strategy, labels in ran],
        }
    ]
    assert len(load_results(experiment(), tmp_path).points()) == 15


def test_which_point_is_compared_is_drawn_by_the_code(tmp_path, hashes):
    drawn = set()
    for letter in "0123456789":
        make(tmp_path)
        hashes["code"] = letter * 64
        make(tmp_path, run=lambda seed, **setting: drawn.add(seed) or score(seed, **setting))
    assert len(drawn) >= 3


def test_other_scores_in_another_place_decide_nothing(tmp_path, hashes, monkeypatch):
    """A processor with other instructions adds up in another order; hours of results are not thrown away for that."""
    here = results.surroundings()
    make(tmp_path)
    before = (tmp_path / "curves.json").read_bytes()
    hashes["code"] = "e" * 64
    monkeypatch.setattr(results, "surroundings", lambda: {**here, "cpu_capability": "OTHER"})
    with pytest.raises(StaleResults, match=r"auc was .*, is .*not where it was made.*ATEN_CPU_CAPABILITY.*curves.json"):
        make(tmp_path, run=lambda seed, **setting: {"auc": 2.0})
    assert (tmp_path / "curves.json").read_bytes() == before
    make(tmp_path)  # the same scores there
    assert len(json.loads((tmp_path / "curves.json").read_text())["carried"]) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda scores: {**scores, "auc": scores["auc"] * (1 + 1e-5)},
        lambda scores: {**scores, "more": 1.0},
        lambda scores: {"auc": scores["auc"], "seconds": 3.0},
    ],
    ids=["another value", "another metric", "a metric less"],
)
def test_code_that_gives_other_scores_keeps_no_point(tmp_path, hashes, change, capsys):
    ran = change_code(tmp_path, hashes, change)
    assert len(ran) == 1 + 15
    assert "all anew" in capsys.readouterr().out
    assert "carried" not in json.loads((tmp_path / "curves.json").read_text())


def test_seeds_are_added_to_points_that_were_carried(tmp_path, hashes, monkeypatch):
    monkeypatch.setitem(globals(), "NOISE", (*NOISE, 0.003))
    assert len(change_code(tmp_path, hashes, seeds=(*SEEDS, 5))) == 3 + 3


@pytest.mark.parametrize("part", ["code", "data"])
def test_stale_is_refused_and_made_anew(tmp_path, hashes, part):
    make(tmp_path)
    hashes[part] = "e" * 64
    with pytest.raises(StaleResults, match=rf"the {part} behind it has changed; .*tlcourse experiments curves"):
        load_results(experiment(), tmp_path)
    runs = []

    def interrupted(seed, **setting):
        runs.append(seed)
        if len(runs) == 3:
            raise KeyboardInterrupt
        return {"auc": 0.1 * seed, "gap": 0.0, "seconds": 1.0}  # other scores than were kept

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, run=interrupted)
    points = json.loads((tmp_path / "curves.json").read_text())["points"]
    assert len(points) == (1 if part == "code" else 2)  # no old point among them; one run compared


def test_missing_file_names_the_command(tmp_path):
    with pytest.raises(StaleResults, match="python -m tlcourse experiments curves"):
        load_results(experiment(), tmp_path)


@pytest.mark.parametrize(("change", "message"), PLACES)
def test_bad_points_are_refused_and_mended(tmp_path, change, message):
    make(tmp_path)
    forge(tmp_path, lambda content: change(content["points"]))
    with pytest.raises(StaleResults, match=message):
        load_results(experiment(), tmp_path)


@pytest.mark.parametrize("change", [change for change, _ in PLACES[:4]])
def test_make_mends(tmp_path, change):
    whole = make(tmp_path)
    forge(tmp_path, lambda content: change(content["points"]))
    assert make(tmp_path).points() == whole.points()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"points": []}', "null"])
def test_damaged_files_are_refused_and_made_anew(tmp_path, text):
    (tmp_path / "curves.json").write_text(text)
    with pytest.raises(StaleResults, match="damaged"):
        load_results(experiment(), tmp_path)
    assert len(make(tmp_path).points()) == 15


def test_edit_by_hand_is_seen(tmp_path):
    make(tmp_path)
    forge(tmp_path, lambda content: content["points"][0]["scores"].update(auc=0.99), checksum=False)
    with pytest.raises(StaleResults, match="edited by hand"):
        load_results(experiment(), tmp_path)


@pytest.mark.parametrize(("value", "message"), [(math.nan, "not finite"), (None, "no scores")])
def test_a_useless_run_is_an_error_and_not_kept(tmp_path, value, message):
    def run(seed, strategy, labels):
        if seed == 1:
            return {} if value is None else {"auc": value}
        return score(seed, strategy, labels)

    with pytest.raises(ValueError, match=f"seed 1 gave .*{message}"):
        make(tmp_path, run=run)
    assert len(json.loads((tmp_path / "curves.json").read_text())["points"]) == 3


def test_rerun_agrees(tmp_path, capsys):
    kept = make(tmp_path)
    setting, seed = kept.drawn()
    live = kept.rerun()
    assert live == score(seed, **setting)
    first, *measured = capsys.readouterr().out.splitlines()
    assert first.startswith("RUN AGAIN, AGREES: curves, strategy=")
    assert [line.split()[1] for line in measured] == ["auc", "gap"]  # seconds are this machine's own


def test_the_draw_depends_on_the_hash_alone(tmp_path, hashes):
    draws = set()
    for code in range(40):
        hashes["code"] = str(code)
        kept = make(tmp_path)
        assert kept.drawn() == load_results(experiment(), tmp_path).drawn()
        draws.add((*kept.drawn()[0].values(), kept.drawn()[1]))
    assert len(draws) > 8  # of 15 points: 14 are expected of 40 even draws


@pytest.mark.parametrize("shift", [0.1, -0.1, 0.5, 5.0])
def test_rerun_sees_a_tampered_point(tmp_path, shift):
    setting, seed = make(tmp_path).drawn()

    def tamper(content):
        for point in content["points"]:
            if point["setting"] == setting and point["seed"] == seed:
                point["scores"]["auc"] += shift

    forge(tmp_path, tamper)
    with pytest.raises(RerunDisagrees, match="auc is .* live, but .* was kept"):
        load_results(experiment(), tmp_path).rerun()


def test_rerun_sees_a_shifted_setting(tmp_path):
    setting, _ = make(tmp_path).drawn()

    def tamper(content):
        for point in content["points"]:
            if point["setting"] == setting:
                point["scores"]["auc"] += 0.1

    forge(tmp_path, tamper)
    with pytest.raises(RerunDisagrees, match="auc"):
        load_results(experiment(), tmp_path).rerun()


def test_rerun_sees_changed_behaviour(tmp_path):
    make(tmp_path)

    def worse(seed, **setting):
        return {**score(seed, **setting), "gap": 0.9}

    with pytest.raises(RerunDisagrees, match="gap"):
        load_results(experiment(run=worse), tmp_path).rerun()


def test_rerun_bears_the_last_digits_of_another_processor(tmp_path):
    make(tmp_path, run=lambda seed, **setting: {"auc": 1.0})
    near = experiment(run=lambda seed, **setting: {"auc": 1.0 - 1 / 600})  # one test image
    far = experiment(run=lambda seed, **setting: {"auc": 1.0 - 3 / 600})
    load_results(near, tmp_path).rerun()
    with pytest.raises(RerunDisagrees):
        load_results(far, tmp_path).rerun()


def test_rerun_sees_other_metrics(tmp_path):
    make(tmp_path)
    with pytest.raises(RerunDisagrees, match="returned"):
        load_results(experiment(run=lambda seed, **setting: {"auc": 0.8}), tmp_path).rerun()


@pytest.mark.parametrize(
    ("metric", "setting", "message"),
    [
        ("auc", {"strategy": "probe"}, "fits 2 settings"),
        ("auc", {"strategy": "lora"}, "fits 0 settings"),
        ("auc", {}, "fits 3 settings"),
        ("accuracy", {"labels": 200}, "kept: auc, gap, seconds"),
    ],
)
def test_what_is_not_kept(tmp_path, metric, setting, message):
    with pytest.raises(KeyError, match=message):
        make(tmp_path).scores(metric, **setting)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../escape"}, "file's"),
        ({"settings": ()}, "at least one setting"),
        ({"settings": (SETTINGS[0], dict(SETTINGS[0]))}, "none of them twice"),
        ({"seeds": (0, 1, 2, 3)}, "at least 5"),
        ({"seeds": (0, 1, 2, 3, 3)}, "distinct"),
    ],
)
def test_bad_experiments(changes, message):
    with pytest.raises(ValueError, match=message):
        experiment(**changes)
