"""Tables of teachers' outputs: independent of batches, refused if anything else computed them, and resumed after a stop."""

import hashlib
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.data.augment import apply_views, unchanged_view, view_index
from fathomlab.data.split import stratified_subset
from fathomlab.engine.device_data import DeviceDataset, split_indices
from fathomlab.engine.teachers import TeacherPack, ViewTable
from fathomlab.execute.pack import tables
from fathomlab.execute.pack.inputs import load_dataset, load_teachers
from fathomlab.execute.pack.tables import LoadedTeacher, TeacherTables
from fathomlab.execute.signals import RunInterrupted
from fathomlab.plan import Trial
from fathomlab.store.lock import file_lock
from fathomlab.store.tables import PATTERN, table_seconds
from fathomlab.store.weights import load_checked, save_checked
from tests.helpers import small_training

pytestmark = pytest.mark.usefixtures("no_charts")

CPU, BOTH, LIMIT = torch.device("cpu"), ("flip", "crop"), 60
MODEL = {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 1, "batch_norm": True}}


class Lab(NamedTuple):
    """A store with a trained teacher, and what its students load."""

    root: Path
    conf: dict[str, Any]
    teacher: Trial
    record: Any
    images: DeviceDataset
    labels: Any

    @property
    def folder(self) -> Path:
        """The teacher's folder."""
        return self.root / "trials" / self.teacher.hash

    def students(self, **distillation: Any) -> list[Trial]:
        """The students of an experiment with these options."""
        plan = fathomlab.load(self.conf | {"distillation": {"alpha": 0.5, **distillation}})
        return [trial for trial in plan.trials if trial.teachers]

    def load(self, *students: Trial, stop: Any = lambda: None, **changes: Any) -> TeacherPack:
        """Load the teachers of a pack of students."""
        recipes = [replace(trial.recipe, **changes) for trial in students]
        pack = load_teachers(students, recipes, self.images, self.root, CPU, stop)
        assert pack is not None
        return pack

    def table(self) -> Path:
        """The only table of all views."""
        (path,) = (path for path in self.folder.glob(PATTERN) if len(load_checked(path)[0]["logits"]) > 1)
        return path


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Two students with seeds 0 and 1 learn from one teacher role."""
    conf: dict[str, Any] = {
        "data": {"name": "mnist-sample", "limit": LIMIT, "batch_size": 20, "augment": list(BOTH)},
        "teacher_model": MODEL,
        "student_model": MODEL,
        "training_teacher": {"epochs": 20, "lr": 0.05},
        "training_student": {"epochs": 1},
        "experiment": {"seeds": 1},
    }
    alone = {"data": conf["data"], "model": MODEL, "training": conf["training_teacher"], "experiment": {"seeds": 1}}
    results = fathomlab.run(alone, runs=tmp_path, progress="off", workers=1)
    (teacher,) = results.plan.trials
    arrays, images = load_dataset(teacher.data.component, tmp_path, "cpu", torch.float32)
    return Lab(tmp_path, conf, teacher, results[0], images, arrays.train_labels)


def expected_outputs(lab: Lab, rows: Tensor, view: int) -> Tensor:
    """A naive twin: the teacher as a torch module, image by image."""
    pack = lab.load(*lab.students())
    (member,) = pack.members
    outputs = []
    for row in rows.tolist():
        picture = apply_views(lab.images.images[row][None, None], torch.tensor([[view]]), BOTH)
        outputs.append(member(lab.images.normalize(picture))[0, 0])
    return torch.stack(outputs)


def test_table_belongs_to_image_and_view(lab: Lab) -> None:
    """Row by row, whatever the batch; the unchanged view is the table without augmentation."""
    pack = lab.load(*lab.students(targets="consistent"))
    rows = torch.from_numpy(stratified_subset(lab.labels, LIMIT))
    assert pack.views is not None
    assert pack.views.logits.shape == (1, 162, LIMIT, 10)
    assert pack.views.logits.dtype == torch.float16
    for view in (0, 77, 161):
        stored = pack.views(rows[None], torch.full((1, LIMIT), view))[0]
        torch.testing.assert_close(stored.float(), expected_outputs(lab, rows, view), rtol=2e-3, atol=2e-3)
    stored = pack.views(rows[None], torch.full((1, LIMIT), unchanged_view(BOTH)))[0]
    torch.testing.assert_close(stored.float(), pack.logits[0, rows], rtol=2e-3, atol=2e-3)
    others = torch.ones(len(lab.images.labels), dtype=torch.bool)
    others[rows] = False
    assert (pack.views.position[others] == -1).all()


@pytest.mark.parametrize("batch", [7, 59])
def test_table_is_independent_of_the_batch_size(lab: Lab, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within rounding, in single precision."""
    monkeypatch.setattr(tables, "TABLE_FORMAT", torch.float32)
    whole = lab.load(*lab.students(targets="consistent")).views
    lab.table().unlink()
    monkeypatch.setattr(tables, "TEACHER_BATCH", batch)
    other = lab.load(*lab.students(targets="consistent")).views
    assert whole is not None
    assert other is not None
    torch.testing.assert_close(whole.logits, other.logits, rtol=1e-5, atol=1e-5)


def test_another_process_computes_the_same_table(lab: Lab) -> None:
    lab.load(*lab.students(targets="consistent"))
    digest = hashlib.sha256(load_checked(lab.table())[0]["logits"].numpy().tobytes()).hexdigest()
    name = lab.table().name
    lab.table().unlink()
    program = (
        "import sys; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
        "import fathomlab\n"
        "from fathomlab.execute.pack.inputs import load_dataset, load_teachers\n"
        f"plan = fathomlab.load({lab.conf | {'distillation': {'targets': 'consistent'}}!r})\n"
        "(trial,) = (trial for trial in plan.trials if trial.teachers)\n"
        "root = Path(sys.argv[1]); images = load_dataset(trial.data.component, root, 'cpu', torch.float32)[1]\n"
        "load_teachers([trial], [trial.recipe], images, root, torch.device('cpu'))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(lab.root)], check=True)
    assert lab.table().name == name
    assert hashlib.sha256(load_checked(lab.table())[0]["logits"].numpy().tobytes()).hexdigest() == digest


class CodedTeacher:
    """A network that outputs the index of the image and where its marked pixel is."""

    architecture = small_training.mlp()

    def __call__(self, params: Any, buffers: Any, images: Tensor, mode: str) -> Tensor:
        """The code of each image: its maximum, and the row and column of it."""
        assert mode == "eval"
        flat = images[0, :, 0].flatten(1)
        value, position = flat.max(1)
        width = images.shape[-1]
        return torch.stack([value, (position // width).to(value), (position % width).to(value)], 1).unsqueeze(0)


def test_shuffled_loader_returns_the_outputs_of_its_images(tmp_path: Path) -> None:
    """Images with one marked pixel, whose brightness is the index; the table is read through shuffled, augmented batches."""
    recipe = small_training.recipe(small_training.mlp(), augment=BOTH, targets="consistent", precision="fp32")
    (recipe,) = small_training.distilled([recipe], (0.5,), (1.0,))
    data = small_training.make_dataset((1, 12, 12), dtype=torch.float32)
    images = torch.zeros_like(data.images)
    images[:, 0, 5, 6] = torch.arange(1, 61, dtype=torch.uint8)
    data = replace(data, images=images, mean=torch.zeros(1, 1, 1), scale=torch.ones(1, 1, 1))
    rows = torch.arange(60)
    loader = TeacherTables(data, rows, recipe, lambda: None)
    teacher = LoadedTeacher("a" * 64, tmp_path, "b" * 64, CodedTeacher(), {})  # type: ignore[arg-type]
    table = loader.load(teacher, loader.all(), "c" * 64)
    pack = small_training.make_trainer([replace(recipe, teachers=())], None, data)
    order = pack.train_index[:, torch.randperm(48, generator=torch.Generator().manual_seed(2))]
    stored = ViewTable(table.unsqueeze(0), torch.tensor([0]), rows)
    for epoch in range(3):
        for index in order.split(10, dim=1):
            seen = pack.batch(index, epoch)
            expected = CodedTeacher()({}, {}, seen, "eval")
            outputs = stored(index, view_index(pack.keys("augment"), epoch, index, BOTH)).float()
            assert torch.equal(outputs, expected)
            assert torch.equal(outputs[0, :, 0].long(), index[0] + 1)


def test_stored_arg_max_has_the_accuracy_of_the_teacher(lab: Lab) -> None:
    """On the validation images as recorded, and on the training images as its module in plain torch predicts them."""
    pack = lab.load(*lab.students(targets="clean"))
    correct = (pack.logits[0].argmax(-1) == lab.images.labels).double()
    train_index, validation_index = split_indices([lab.teacher.recipe], lab.labels, CPU)
    assert float(correct[validation_index[0]].mean()) == pytest.approx(lab.record.metrics["val/accuracy"], abs=1e-12)
    images, labels = lab.record.train_data()
    predicted = lab.record.load_model()(images).argmax(-1)
    accuracy = float((predicted == labels).double().mean())
    assert float(correct[train_index[0]].mean()) == accuracy > 0.2


def changed_origin(lab: Lab, path: Path, key: str) -> None:
    """Rewrite a table with another value of one part of its origin."""
    stored, metadata = load_checked(path)
    origin = dict(metadata["origin"])
    if "." in key:
        section, name = key.split(".")
        origin[section] = origin[section] | {name: "other"}
    else:
        origin[key] = 99
    save_checked(path, stored, {**metadata, "origin": origin})


@pytest.mark.parametrize(
    "key",
    [
        *("trial", "weights", "images", "rows", "mean", "scale", "version"),
        *("options.data", "options.limit", "options.augment", "options.seed", "options.format"),
    ],
)
def test_another_origin_is_refused(lab: Lab, key: str) -> None:
    students = lab.students(targets="consistent")
    lab.load(*students)
    path = lab.table()
    lab.load(*students)
    changed_origin(lab, path, key)
    with pytest.raises(UserError) as caught:
        lab.load(*students)
    assert caught.value.code == "stale-table"
    assert str(path) in str(caught.value)
    assert key.partition(".")[0] in str(caught.value)
    path.unlink()  # the remedy
    lab.load(*students)


@pytest.mark.parametrize("change", ["images", "mean", "scale"])
def test_other_images_are_refused(lab: Lab, change: str) -> None:
    """The parts of the origin follow what they stand for."""
    students = lab.students(targets="consistent")
    lab.load(*students)
    lab.table()
    value = getattr(lab.images, change).clone()
    value.flatten()[-1 if change != "images" else int(stratified_subset(lab.labels, LIMIT)[0]) * 784] += 1
    with pytest.raises(UserError) as caught:
        lab._replace(images=replace(lab.images, **{change: value})).load(*students)
    assert caught.value.code == "stale-table"
    assert change in str(caught.value)


def test_options_have_their_tables(lab: Lab) -> None:
    """Other options are other files: nothing is refused, and nothing is overwritten."""
    names = set[str]()
    for options in ({}, {"targets": "consistent"}, {"targets": "cached"}, {"placebo": "class_mean"}):
        lab.load(*lab.students(**options))
        names |= {path.name for path in lab.folder.glob(PATTERN)}
    assert len(names) == 3  # one random view per image serves cached targets and the mean of a class
    before = {name: (lab.folder / name).read_bytes() for name in names}
    lab.load(*lab.students(targets="consistent"), augment=("crop",))
    assert len(list(lab.folder.glob(PATTERN))) == 4
    assert before == {name: (lab.folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("targets", ["consistent", "clean"])
def test_wrong_numbers_are_refused_at_the_start(lab: Lab, targets: str) -> None:
    """Outputs of another network, with the right origin."""
    students = lab.students(targets=targets)
    lab.load(*students)
    path = lab.table() if targets == "consistent" else next(lab.folder.glob(PATTERN))
    stored, metadata = load_checked(path)
    save_checked(path, {"logits": stored["logits"].roll(1, dims=1)}, metadata)
    with pytest.raises(UserError) as caught:
        lab.load(*students)
    assert caught.value.code == "stale-table"
    assert f"Remove {path}" in str(caught.value)


def test_corrupted_table_is_computed_again(lab: Lab) -> None:
    students = lab.students(targets="consistent")
    lab.load(*students)
    path = lab.table()
    content = load_checked(path)[0]["logits"]
    path.write_bytes(path.read_bytes()[:-1])
    lab.load(*students)
    assert torch.equal(load_checked(path)[0]["logits"], content)


def test_stop_interrupts_and_the_table_resumes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop in view 5 leaves 5 views, which are not computed again; the table is that of an uninterrupted run."""
    students = lab.students(targets="consistent")
    lab.load(*students)
    whole = load_checked(lab.table())[0]["logits"]
    path = lab.table()
    path.unlink()
    calls: list[int] = []

    def stop() -> int | None:
        calls.append(1)
        return signal.SIGTERM if len(calls) == 6 else None

    with pytest.raises(RunInterrupted) as caught:
        lab.load(*students, stop=stop)
    assert caught.value.signum == signal.SIGTERM
    partial, metadata = load_checked(path)
    assert len(partial["logits"]) == 5
    computed: list[int] = []
    original = LoadedTeacher.__call__
    monkeypatch.setattr(LoadedTeacher, "__call__", lambda self, images: (computed.append(1), original(self, images))[1])
    lab.load(*students)
    assert len(computed) == 157 + 2  # the views, and two verifications
    assert torch.equal(load_checked(path)[0]["logits"], whole)
    assert load_checked(path)[1]["seconds"] > metadata["seconds"] > 0


def test_workers_wait_for_a_table_that_another_one_computes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process holds its lock, a stop still ends the wait; after that, nothing is computed twice."""
    students = lab.students(targets="consistent")
    lab.load(*students)
    path, content = lab.table(), lab.table().read_bytes()
    path.unlink()
    waits: list[int] = []

    def stop() -> int | None:
        waits.append(1)
        return signal.SIGTERM if len(waits) == 3 else None

    computed: list[int] = []
    original = LoadedTeacher.__call__
    monkeypatch.setattr(LoadedTeacher, "__call__", lambda self, images: (computed.append(1), original(self, images))[1])
    lock = path.with_name(f".{path.name}.lock")
    with file_lock(lock, lambda: None):
        with pytest.raises(RunInterrupted):
            lab.load(*students, stop=stop)
        assert len(computed) == 1  # the verification of the table without augmentation

        def finish() -> None:
            path.write_bytes(content)
            lock.unlink()  # as if the other worker ended: a new lock file is free
            raise RunInterrupted

        with pytest.raises(RunInterrupted):
            lab.load(*students, stop=finish)
    computed.clear()
    lab.load(*students)
    assert len(computed) == 2
    assert not lock.exists()


def test_too_large_outputs_are_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    original = LoadedTeacher.__call__
    monkeypatch.setattr(LoadedTeacher, "__call__", lambda self, images: original(self, images) * 1e6)
    with pytest.raises(UserError) as caught:
        lab.load(*lab.students(targets="consistent"))
    assert caught.value.code == "out-of-range"


def test_students_of_a_teacher_share_a_table_and_its_seconds(lab: Lab) -> None:
    """Four students, one table in memory; its time belongs to the first student, and to none after loading."""
    factors = {"distillation.alpha": [0.1, 0.5, 0.7, 0.9]}
    conf = lab.conf | {"distillation": {"targets": "consistent"}, "experiment": {"seeds": 1, "factors": factors}}
    plan = fathomlab.load(conf)
    students = [trial for trial in plan.trials if trial.teachers]
    pack = lab.load(*students)
    assert pack.views is not None
    assert pack.views.logits.shape[0] == pack.logits.shape[0] == 1
    assert pack.views.slots.tolist() == [0, 0, 0, 0]
    seconds = [table_seconds(lab.root, trial) for trial in students]
    assert seconds[0] is not None
    assert seconds[0] > 0
    assert seconds[1:] == [None] * 3
    lab.load(*students[1:])
    assert [table_seconds(lab.root, trial) for trial in students[1:]] == [None] * 3
    results = fathomlab.run(conf, runs=lab.root, progress="off", workers=1)
    recorded = [results.store.trial(trial.hash).table_seconds for trial in students]
    assert recorded == seconds
