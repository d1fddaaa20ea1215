"""Where a student's targets come from: the same image and the same view, in every epoch, after a resume, and in a pack."""

import copy
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from fathomlab.config.training import Placebo
from fathomlab.config.training import Targets as TargetNames
from fathomlab.data.augment import augment, view_index
from fathomlab.engine.loop import train
from fathomlab.engine.state import load_replica_state_dict, replica_state_dict
from fathomlab.engine.teachers import Teacher, TeacherPack, ViewTable
from fathomlab.engine.training import PackTrainer
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.optim.adam import Adam
from fathomlab.plan.recipe import Recipe
from tests.helpers import small_training
from tests.unit.engine.test_distillation import RecordingNetwork

BOTH = ("flip", "crop")
PLACEBOS = (None, *get_args(Placebo))
VARIANTS = [(targets, placebo) for targets in get_args(TargetNames) for placebo in PLACEBOS]


def students(kind: str = "mlp", alpha: float = 0.7, **changes: Any) -> list[Recipe]:
    """Two distilled students with augmentation that differ in their seed and their temperature."""
    architecture = small_training.mlp(batch_norm=True) if kind == "mlp" else small_training.cnn()
    options: dict[str, Any] = {"augment": BOTH, **changes}
    if options.get("placebo") in ("class_mean", "label_smoothing") and options.get("targets") != "clean":
        options["targets"] = "on_the_fly"  # as in every plan
    recipes = [small_training.recipe(architecture, seed=seed, **options) for seed in (3, 4)]
    return small_training.distilled(recipes, (alpha,) * 2, (3.0, 5.0))


def trainer_of(recipes: Sequence[Recipe], dtype: torch.dtype | None = None) -> PackTrainer:
    """A pack with teachers that have larger weights than initial networks, and with the table that it needs."""
    exact = torch.float64 if recipes[0].precision == "fp64" else torch.float32
    data = small_training.make_dataset(recipes[0].architecture.shape, dtype=exact)
    teachers = small_training.make_teachers(recipes, data)
    if recipes[0].table_views:
        stored = dtype or (torch.float16 if recipes[0].targets == "consistent" else exact)
        teachers = small_training.with_views(teachers, recipes, data, stored)
    return small_training.make_trainer(recipes, teachers, data)


@pytest.mark.parametrize(("targets", "placebo"), VARIANTS)
def test_alpha_zero_equals_baseline_bit_for_bit(targets: str, placebo: str | None) -> None:
    """No target and no placebo draws from a stream of the student, or changes anything but the targets."""
    recipes = students(alpha=0.0, targets=targets, placebo=placebo, precision="fp32", optimizer=Adam(), epochs=2)
    pack = trainer_of(recipes)
    curves = list(train(pack, frozenset()))
    alone = [
        replace(recipe, loss=CrossEntropy(), teachers=(), targets="on_the_fly", placebo=None) for recipe in recipes
    ]
    baseline, expected = small_training.run_training(alone, None, pack.data)
    for slot in range(2):
        small_training.assert_identical(
            small_training.replica_results(pack, curves, slot),
            small_training.replica_results(baseline, expected, slot),
        )


@pytest.mark.parametrize(("targets", "placebo"), VARIANTS)
def test_packed_equals_single(targets: str, placebo: str | None) -> None:
    """Each replica reads its own table and its own placebo, also as a separate network."""
    recipes = students(targets=targets, placebo=placebo, epochs=2)
    pack = trainer_of(recipes, torch.float64)
    start, teachers = copy.copy(pack), pack.teachers
    assert teachers is not None
    images = pack.batch(pack.train_index, 1)
    rows = [
        start.replica(slot).teacher_logits(pack.train_index[slot : slot + 1], images[slot : slot + 1], 1)
        for slot in (0, 1)
    ]
    both = pack.teacher_logits(pack.train_index, images, 1)
    assert both is not None
    for slot, row in enumerate(rows):
        assert row is not None
        torch.testing.assert_close(row[0], both[slot], rtol=1e-12, atol=1e-12)
    curves = list(train(pack, frozenset()))
    for slot, recipe in enumerate(recipes):
        alone, alone_curves = small_training.run_training([recipe], teachers.replica(slot), pack.data)
        small_training.assert_close(
            small_training.replica_results(pack, curves, slot), small_training.replica_results(alone, alone_curves, 0)
        )


@pytest.mark.parametrize("placebo", [None, "shuffled", "within_class"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.float32, 1e-6)])
def test_consistent_equals_on_the_fly(placebo: str | None, dtype: torch.dtype, tolerance: float) -> None:
    """The losses of every step of an epoch, with one table in half and one in single precision.

    The networks are in double precision, so that only the rounding of the table remains.
    """
    losses = []
    for targets in ("on_the_fly", "consistent"):
        recipes = students(targets=targets, placebo=placebo, precision="fp64", epochs=1)
        pack = trainer_of(recipes, dtype)
        losses.append([pack.state.epoch_sums[2].clone() for _ in train(pack, frozenset(range(1, 5)))])
    assert len(losses[0]) == 5
    for first, second in zip(*losses, strict=True):
        torch.testing.assert_close(first, second, rtol=tolerance, atol=0)
    other = trainer_of(students(targets="clean", placebo=placebo, precision="fp64", epochs=1))
    different = [other.state.epoch_sums[2].clone() for _ in train(other, frozenset(range(1, 5)))]
    assert float((different[0] - losses[0][0]).abs().min()) > 1e-3


def test_half_precision_hardly_moves_the_divergence() -> None:
    """For logits as large as those of a trained teacher, at T = 1."""
    logits = torch.randn(2000, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 8
    student = torch.log_softmax(
        torch.randn(2000, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(2)), -1
    )
    exact, rounded = (torch.log_softmax(each, -1) for each in (logits, logits.half().double()))
    divergences = [(each.exp() * (each - student)).sum(-1).mean() for each in (exact, rounded)]
    assert 0 < float((divergences[0] - divergences[1]).abs()) < 1e-4


@pytest.mark.parametrize("targets", get_args(TargetNames))
def test_targets_are_of_the_image_and_its_view(targets: str) -> None:
    """Outputs that encode image and view come back for every order and batch."""
    recipes = students(targets=targets)
    pack = trainer_of(recipes)
    images, views = torch.arange(60.0), torch.arange(162.0)
    table = torch.zeros(2, 162, 60, 3, dtype=torch.float64)
    table[..., 0], table[..., 1], table[..., 2] = images, views[:, None], torch.tensor([1.0, 2.0])[:, None, None]
    clean, slots = table[:, 40].clone(), torch.tensor([1, 0])
    stored = table[:, :1] if targets == "cached" else table
    assert pack.teachers is not None
    pack.teachers = replace(pack.teachers, logits=clean, slots=slots, views=ViewTable(stored, slots, torch.arange(60)))
    index = torch.stack(
        [row[torch.randperm(48, generator=torch.Generator().manual_seed(1))] for row in pack.train_index]
    )
    for epoch in (0, 1, 2):
        for some in (index, index[:, 5:17], index.flip(1)):
            if targets == "on_the_fly":
                break
            outputs = pack.teacher_logits(some, pack.batch(some, epoch), epoch)
            assert outputs is not None
            numbers = view_index(pack.keys("augment"), epoch, some, BOTH)
            expected = {"consistent": numbers, "clean": torch.full_like(some, 40), "cached": torch.zeros_like(some)}
            assert torch.equal(outputs[..., 0].long(), some)
            assert torch.equal(outputs[..., 1].long(), expected[targets])
            assert torch.equal(outputs[..., 2].long(), slots[:, None].expand(some.shape) + 1)
    clean_view = pack.teacher_logits(index, pack.batch(index, None), None)
    assert clean_view is not None
    if targets in ("clean", "consistent"):  # a probe measures images without augmentation
        assert torch.equal(clean_view, clean[slots[:, None], index])


@pytest.mark.parametrize("placebo", ["shuffled", "within_class"])
def test_permuted_teacher_sees_the_view_of_the_student(placebo: str) -> None:
    """On the fly, the teacher gets another image with the flip and the crop of the student's image."""
    pack = trainer_of(students("cnn", placebo=placebo))
    assert pack.teachers is not None
    (member,) = pack.teachers.members
    recorded = RecordingNetwork(member.network)
    pack.teachers = replace(pack.teachers, members=(Teacher(recorded, member.params, member.buffers),))  # type: ignore[arg-type]
    index = pack.train_index[:, 3:20]
    pack.teacher_logits(index, pack.batch(index, 2), 2)
    source = pack._placebo.source
    assert source is not None
    others = source.gather(1, index)
    assert (others != index).all()
    expected = pack.data.normalize(augment(pack.data.images[others], pack.keys("augment"), 2, index, BOTH))
    assert torch.equal(recorded.images[0], expected)


@pytest.mark.parametrize(("targets", "placebo"), VARIANTS)
def test_teacher_keeps_its_state_and_gets_no_graph(targets: str, placebo: str | None) -> None:
    """Weights, running statistics, and tables keep their bits. Targets need no gradient."""
    pack = trainer_of(students("cnn", targets=targets, placebo=placebo, augment=("flip",), epochs=1))
    teachers = pack.teachers
    assert teachers is not None
    (member,) = teachers.members
    for value in member.params.values():
        value.requires_grad_()
    tensors = {**member.params, **{f"buffer {name}": value for name, value in member.buffers.items()}}
    tensors |= {"logits": teachers.logits} | ({"views": teachers.views.logits} if teachers.views else {})
    assert any(name.endswith("running_mean") for name in tensors)
    before = {name: value.detach().clone() for name, value in tensors.items()}
    logits = pack.teacher_logits(pack.train_index, pack.batch(pack.train_index, 0), 0)
    assert logits is not None
    assert (logits.requires_grad, logits.grad_fn) == (False, None)
    list(train(pack, frozenset()))
    assert all(torch.equal(before[name], value) for name, value in tensors.items())
    assert all(value.grad is None for value in member.params.values())


@pytest.mark.parametrize("placebo", [None, "shuffled"])
def test_modes_of_teacher_and_student_in_every_epoch(placebo: str | None) -> None:
    """Each step of each epoch trains the student in train mode, with evaluations between the epochs; the teacher evaluates."""
    pack = trainer_of(students("cnn", placebo=placebo, epochs=3))
    assert pack.teachers is not None
    (member,) = pack.teachers.members
    teacher = RecordingNetwork(member.network)
    pack.teachers = replace(pack.teachers, members=(Teacher(teacher, member.params, member.buffers),))  # type: ignore[arg-type]
    student = pack.state.network = RecordingNetwork(pack.state.network)  # type: ignore[assignment]
    name = next(iter(pack.state.buffers))
    assert "running" in name
    statistics = [pack.state.buffers[name].clone() for _ in train(pack, frozenset())]
    assert student.modes == (["train"] * 5 + ["eval"]) * 3
    assert teacher.modes == ["eval"] * 15
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(statistics))


class RecordingTable(ViewTable):
    """A table that records which views are read."""

    def __call__(self, index: Tensor, views: Tensor) -> Tensor:
        """Record images and views."""
        READS.append((index.clone(), views.clone()))
        return super().__call__(index, views)


READS: list[tuple[Tensor, Tensor]] = []


@pytest.mark.parametrize("step", [8, 10], ids=["inside an epoch", "end of an epoch"])
def test_resume_reads_the_views_of_the_uninterrupted_training(step: int) -> None:
    """Views, weights, and curves, bit for bit."""

    class Stopped(Exception):
        pass

    def prepared() -> PackTrainer:
        READS.clear()
        pack = trainer_of(students(targets="consistent"))
        assert pack.teachers is not None
        views = pack.teachers.views
        assert views is not None
        pack.teachers = replace(pack.teachers, views=RecordingTable(views.logits, views.slots, views.position))
        return pack

    whole = prepared()
    curves = list(train(whole, frozenset()))
    expected = list(READS)
    assert len(expected) == 20
    assert not torch.equal(expected[0][1], expected[5][1])

    def stop() -> None:
        if first.state.step == step and (step % 5 or first.state.epoch == step // 5):
            raise Stopped

    def interrupted() -> None:
        for _ in train(first, frozenset()):
            stop()

    first = prepared()
    first.between_batches = stop
    with pytest.raises(Stopped):
        interrupted()
    reads = list(READS)
    saved = [{name: value.clone() for name, value in replica_state_dict(first.state, slot).items()} for slot in (0, 1)]
    second = prepared()
    second.state.step, second.state.epoch = first.state.step, first.state.epoch
    for slot, tensors in enumerate(saved):
        load_replica_state_dict(second.state, slot, tensors)
    rest = list(train(second, frozenset()))
    reads += READS
    assert len(reads) == 20
    for ours, theirs in zip(reads, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(torch.equal(value, whole.state.params[name]) for name, value in second.state.params.items())
    assert torch.equal(rest[-1].objective, curves[-1].objective)  # type: ignore[arg-type]


def test_replicas_share_a_table() -> None:
    """Replicas of one teacher read one table; a replica alone reads the same memory."""
    recipes = students(targets="consistent")
    pack = trainer_of(recipes)
    assert pack.teachers is not None
    views = pack.teachers.views
    assert views is not None
    shared = TeacherPack(
        pack.teachers.logits[:1], pack.teachers.members, torch.zeros(2, dtype=torch.int64),
        ViewTable(views.logits[:1], torch.zeros(2, dtype=torch.int64), views.position),
    )  # fmt: skip
    index = pack.train_index[:1].expand(2, -1)
    assert torch.equal(*shared.stored(index))
    alone = shared.replica(1)
    assert alone.views is not None
    assert alone.views.logits.data_ptr() == views.logits.data_ptr()
    assert alone.logits.data_ptr() == pack.teachers.logits.data_ptr()
    assert torch.equal(alone.stored(index[:1]), pack.teachers.logits[0, index[:1]])
