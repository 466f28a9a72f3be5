import pytest
import torch

from tlcourse.backbones import attach_head
from tlcourse.distillation import distill, distillation_loss
from tlcourse.plans import apply_plan
from tlcourse.strategies import feature_extraction, last_stages

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_gradient_of_distillation_is_the_difference_of_softmaxes(temperature):
    student = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    distillation_loss(student, teacher, temperature=temperature).backward()
    difference = (student / temperature).softmax(1) - (teacher / temperature).softmax(1)
    assert torch.allclose(student.grad, temperature * difference / 6)
    assert teacher.grad is None


@pytest.mark.parametrize("cached", [False, True])
def test_the_teacher_is_the_model_of_then_on_the_students_own_state(cached, tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    model.add_head("new", 3)
    apply_plan(model, last_stages(model, 1))
    state = model.backbone.preprocessing(tiny_task.train.inputs[:8])
    with torch.no_grad():
        wanted = model.run(state, head="bright")
        penalty = distill(model, strength=3.0, temperature=2.0, head="bright")
        assert penalty(model, state, model.run(state, head="new")).item() == pytest.approx(0, abs=1e-6)
        for parameter in (*model.heads["bright"].parameters(), *model.backbone.stages["block10"].parameters()):
            parameter += torch.randn_like(parameter)
        expected = 3 * distillation_loss(model.run(state, head="bright"), wanted, temperature=2.0)
        entering = model.backbone.run(state, stop=2) if cached else state
        found = penalty(model, entering, model.run(state, head="new"))
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found > 0.1


def test_the_old_outputs_of_a_head_that_has_grown_are_kept(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    penalty = distill(model, strength=1.0, temperature=1.0)
    state = model.backbone.preprocessing(tiny_task.train.inputs[:8])
    with torch.no_grad():
        wanted = model.run(state)
    logits = torch.randn(8, 5)
    expected = distillation_loss(logits[:, :2], wanted, temperature=1.0)
    assert penalty(model, state, logits).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_second_pass_leaves_statistics_alone(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task).train()
    model.add_head("new", 2)
    penalty = distill(model, strength=1.0, head="bright")
    state = model.backbone.preprocessing(tiny_task.train.inputs[:8])
    logits = model.run(state, head="new")
    before = {name: value.clone() for name, value in model.named_buffers()}
    penalty(model, state, logits)
    assert all(torch.equal(before[name], value) for name, value in model.named_buffers())
    model.run(state, head="new")
    assert model.backbone.stages["stem"][1].num_batches_tracked == 2


def test_a_frozen_stage_that_moved_since_is_named(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    penalty = distill(model, strength=1.0)
    with torch.no_grad():
        model.backbone.stages["stem"][1].running_mean += 1
    apply_plan(model, feature_extraction(model))
    state = model.backbone.preprocessing(tiny_task.train.inputs[:8])
    penalty(model, state, model.run(state))
    features = model.backbone.run(state)
    with pytest.raises(ValueError, match="the frozen stage 'stem' is no longer what it was"):
        penalty(model, features, model.run(features, start=4))


def test_the_teacher_is_in_eval_mode_though_the_student_trains(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    state = model.backbone.preprocessing(tiny_task.train.inputs[:8])
    with torch.no_grad():
        wanted = model.eval().run(state)
        logits = torch.randn(8, 2)
        found = distill(model.train(), strength=1.0, temperature=1.0)(model, state, logits)
    assert found.item() == pytest.approx(distillation_loss(logits, wanted, temperature=1.0).item(), rel=1e-5)
    assert all(part.training for part in model.modules())


def test_half_precision_is_compared_in_single():
    student, teacher = torch.randn(2, 6, 4).half()
    found = distillation_loss(student, teacher, temperature=0.01)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(
        distillation_loss(student.double(), teacher.double(), temperature=0.01).item(), rel=1e-5
    )


def test_a_strength_is_not_negative(tiny_backbone, tiny_task):
    with pytest.raises(ValueError, match="strength=-1"):
        distill(attach_head(tiny_backbone, tiny_task), strength=-1.0)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_is_above_zero(temperature, tiny_backbone, tiny_task):
    with pytest.raises(ValueError, match="temperature="):
        distillation_loss(torch.zeros(2, 2), torch.zeros(2, 2), temperature=temperature)
    with pytest.raises(ValueError, match="temperature="):
        distill(attach_head(tiny_backbone, tiny_task), strength=1.0, temperature=temperature)
