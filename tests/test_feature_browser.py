"""The feature browser: what it collects is what the hierarchy finds, and what it draws is what is chosen."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from tlcourse import views
from tlcourse.feature_browser import FeatureBrowser, browse_features, collect_features
from tlcourse.hierarchy import activation_maps, max_pool, mean_pool, top_inputs

pytestmark = pytest.mark.usefixtures("one_thread")


def unit(inputs=2, maps=True, shade=0.5):
    found = {"visualisation": np.full((3, 8, 8), shade), "top": np.full((inputs, 3, 8, 8), 60, dtype=np.uint8)}
    return found | ({"maps": np.arange(inputs * 16.0).reshape(inputs, 4, 4)} if maps else {})


STAGES = {"stem": {0: unit(), 3: unit(shade=0.1)}, "neck": {7: unit(inputs=3, maps=False)}}
TWO = {"stem": {0: unit(), 3: unit()}, "block1": {1: unit(), 4: unit()}}
BAD = [  # stages, words
    ({}, "no stage to browse"),
    ({"stem": {}}, "stage 'stem' has no units"),
    ({"stem": {4: {"top": unit()["top"]}}}, r"stage 'stem', unit 4: .*visualisation is \(0,\)"),
    ({"stem": {4: unit() | {"visualisation": np.zeros((8, 8))}}}, r"visualisation is \(8, 8\)"),
    ({"stem": {4: unit() | {"top": np.zeros((2, 1, 8, 8))}}}, r"top is \(2, 1, 8, 8\)"),
    ({"stem": {4: unit() | {"top": np.zeros((0, 3, 8, 8))}}}, r"top is \(0, 3, 8, 8\)"),
    ({"stem": {4: unit() | {"maps": np.zeros((3, 4, 4))}}}, r"maps is \(3, 4, 4\)"),
]
CHOICES = [
    ({"stage": "trunk"}, "no stage 'trunk'; there are: stem, neck"),
    ({"unit": 9}, "stage 'stem' has no unit 9 here; there are: 0, 3"),
    ({"stage": "neck", "unit": 0}, "stage 'neck' has no unit 0 here; there are: 7"),
]
COLLECT = [  # pictures, count, words
    ({"trunk": {0: torch.zeros(3, 4, 4)}}, 2, "no stage 'trunk'"),
    ({"stem": {8: torch.zeros(3, 4, 4)}}, 2, "channel=8: stage 'stem' has the channels 0 to 7"),
    ({"stem": {0: torch.zeros(3, 4, 4)}}, 91, "count=91: there are 90 inputs"),
    ({"stem": {0: torch.zeros(3, 4, 4)}}, 0, "count=0"),
]


@pytest.mark.parametrize("pool", [mean_pool, max_pool])
def test_what_is_collected_is_what_the_hierarchy_finds(tiny_backbone, tiny_task, pool):
    inputs, picture = tiny_task.train.inputs, torch.rand(3, 4, 4)
    found = collect_features(
        tiny_backbone, inputs, {"stem": {2: picture}, "neck": {5: picture, 0: picture}}, count=4, pool=pool
    )
    assert {stage: list(units) for stage, units in found.items()} == {"stem": [2], "neck": [5, 0]}
    index, _ = top_inputs(tiny_backbone, inputs, stage="stem", channel=2, count=4, pool=pool)
    stem = found["stem"][2]
    assert stem["visualisation"] is picture
    assert torch.equal(stem["top"], inputs[index].expand(-1, 3, -1, -1))
    each = torch.stack([activation_maps(tiny_backbone, image, stage="stem")[2] for image in inputs[index]])
    assert torch.allclose(stem["maps"], each, atol=1e-6)
    index, _ = top_inputs(tiny_backbone, inputs, stage="neck", channel=5, count=4, pool=pool)
    assert torch.equal(found["neck"][5]["top"][:, :1], inputs[index])
    assert "maps" not in found["neck"][5]
    assert FeatureBrowser(found).picture()[1:4] == b"PNG"


@pytest.mark.parametrize(("pictures", "count", "words"), COLLECT)
def test_collecting_refuses(tiny_backbone, tiny_task, pictures, count, words):
    with pytest.raises(ValueError, match=words):
        collect_features(tiny_backbone, tiny_task.train.inputs, pictures, count=count)


@pytest.mark.parametrize(("stages", "words"), BAD)
def test_refuses(stages, words):
    with pytest.raises(ValueError, match=words):
        browse_features(stages)


@pytest.mark.parametrize(("choice", "words"), CHOICES)
def test_an_unknown_unit_is_refused_and_nothing_changes(choice, words):
    state = FeatureBrowser(STAGES)
    with pytest.raises(KeyError, match=words):
        state.choose(**choice)
    assert (state.stage, state.unit) == ("stem", 0)


def test_another_stage_shows_the_unit_in_the_same_place_or_the_last():
    state = FeatureBrowser(STAGES)
    state.choose(unit=3)
    state.choose(stage="neck")
    assert (state.stage, state.unit) == ("neck", 7)
    assert state.alt().endswith("and the 3 inputs that excite it most.")
    state.choose(stage="stem")
    assert state.unit == 0
    assert state.alt().endswith("with its map of each below.")
    two = FeatureBrowser(TWO)
    two.choose(unit=3)
    two.choose(stage="block1")
    assert two.unit == 4


def test_all_pictures_have_one_size_and_differ():
    state, seen = FeatureBrowser(STAGES, licence="CC BY 4.0"), set()
    for stage, units in STAGES.items():
        for chosen in units:
            state.choose(stage=stage, unit=chosen)
            seen.add(state.picture())
            assert Image.open(BytesIO(state.picture())).size == state.size
    assert len(seen) == 3
    assert state.size[0] > FeatureBrowser({"stem": STAGES["stem"]}).size[0]  # room for the widest


def test_the_controls_change_what_is_drawn(monkeypatch):
    shown = []
    monkeypatch.delenv("TLCOURSE_PROGRESS", raising=False)
    monkeypatch.setattr(views, "in_ipython", lambda: True)
    monkeypatch.setattr(views, "display_widget", lambda *widget_and_text: shown.append(widget_and_text))
    state = browse_features(STAGES)
    ((box, text),) = shown
    assert text == "Feature browser: units of stem, neck"
    row, picture, status = box.children
    stage, unit_of_it = row.children
    before = picture.value
    unit_of_it.value = 3
    assert state.unit == 3
    middle = picture.value
    stage.value = "neck"
    assert unit_of_it.options == (7,)
    assert (state.stage, state.unit, unit_of_it.value) == ("neck", 7, 7)
    assert len({before, middle, picture.value}) == 3
    assert picture.tooltip == state.alt() == status.value
    state.choose(stage="stem", unit=3)  # new units are offered, and the control must not choose the first of them
    assert (state.unit, unit_of_it.value, unit_of_it.options) == (3, 3, (0, 3))
