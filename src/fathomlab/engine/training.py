"""Training of a pack: its recipes, data, state, and teachers, and the computations with them."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from fathomlab.base.axes import Images, Indices, Logits, PerExample
from fathomlab.base.identity import derive_seed
from fathomlab.base.packing import signature
from fathomlab.config.plugins import plugin_of
from fathomlab.data.augment import augment
from fathomlab.engine.device_data import DeviceDataset
from fathomlab.engine.features import with_features
from fathomlab.engine.network import Mode, PackedNetwork
from fathomlab.engine.precision import autocast_for, param_dtype
from fathomlab.engine.signals import LossInputs
from fathomlab.engine.stacking import stack_components
from fathomlab.engine.state import PackState, Tensors, initial_state, scalar_or_tensor, select_replica
from fathomlab.engine.step_inputs import Predicts, PredictsPixels
from fathomlab.engine.targets import Targets, placebo_targets
from fathomlab.engine.teachers import TeacherPack
from fathomlab.optim.schedules import Position
from fathomlab.optim.user import CheckedOptimizer, checked_momentum, checked_rate
from fathomlab.plan.recipe import Recipe


class PackTrainer:
    """A pack in training, as the loop, the probes, and the store read it.

    Attributes:
        recipes: One recipe per replica.
        shared_recipe: The first recipe, for all options that are equal in the pack.
        state: The state of the pack.
        between_batches: Called between two calls of the step function, and between two batches of an evaluation.
        replica_trainers: One trainer per replica if the replicas run as separate networks; otherwise empty.
        predictor: Computes `predict` for a backend; None uses the network.
        validation_outputs: Outputs for the validation images after the last epoch, (k, m, classes), once it has been trained.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        data: DeviceDataset,
        train_index: Indices,
        validation_index: Int[Tensor, "k held_out"],
        device: torch.device,
        teachers: TeacherPack | None = None,
        separate_replicas: bool = False,
    ):
        """Start from the initial values of each seed.

        Args:
            recipes: One recipe per replica, all with the same signature.
            data: The dataset on the device.
            train_index: Indices of the training images, (k, n).
            validation_index: Indices of the validation images, (k, m).
            device: The device.
            teachers: The teachers of distilled students.
            separate_replicas: Whether to run each replica as a separate network, on a CUDA device in parallel. Grouped wide
                convolutions are slower than separate ones.
        """
        self.between_batches: Callable[[], None] = lambda: None
        self.predictor: Predicts | None = None
        self.validation_outputs: Logits | None = None
        assert len({signature(recipe) for recipe in recipes}) == 1, "a pack has one signature"
        self.recipes, self.data, self.device, self.teachers = tuple(recipes), data, device, teachers
        self.train_index, self.validation_index = train_index, validation_index
        self.state: PackState = initial_state(recipes, device)
        self.shared_recipe = recipes[0]
        self.weight_decay = scalar_or_tensor([recipe.optimizer.weight_decay for recipe in recipes], device)
        self._augment_keys = self.keys("augment")
        self._placebo = placebo_targets(recipes, teachers, data, train_index)
        optimizer = stack_components(
            [recipe.optimizer for recipe in recipes], lambda values: scalar_or_tensor(values, device)
        )
        self.optimizer: Any = CheckedOptimizer(optimizer) if plugin_of(optimizer) is not None else optimizer
        self._loss = stack_components([recipe.loss for recipe in recipes], self._stack_options)
        self._label_loss = stack_components([recipe.label_loss for recipe in recipes], self._stack_options)
        separate = separate_replicas and len(recipes) > 1
        self.replica_trainers = tuple(self.replica(slot) for slot in range(len(recipes))) if separate else ()
        self.streams = [torch.cuda.Stream(device) for _ in self.replica_trainers] if device.type == "cuda" else []

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, including a smaller last one unless the trial drops it."""
        images, batch_size = self.train_index.shape[1], self.shared_recipe.batch_size
        return images // batch_size if self.shared_recipe.drop_last else -(-images // batch_size)

    @property
    def images_per_epoch(self) -> int:
        """Images per epoch."""
        return min(self.train_index.shape[1], self.steps_per_epoch * self.shared_recipe.batch_size)

    @property
    def plain(self) -> bool:
        """Whether the training loss of every trial is cross-entropy with the labels, without label smoothing."""
        return all(recipe.plain for recipe in self.recipes)

    def objective(
        self, logits: Logits, index: Indices, images: Tensor | None = None, taps: list[Tensor] | None = None
    ) -> PerExample:
        """Compute the training loss of each example, (k, n).

        Args:
            logits: Outputs for the images at `index`, (k, n, classes).
            index: Indices into the training set, (k, n).
            images: The images as the network saw them, (k, n, c, h, w); required with augmentation or features.
            taps: Outputs at the points, as `forward` appended them; required if the recipe `needs_features`.
        """
        return self.loss(logits, self.data.labels[index], self.teacher_logits(index, images), images, taps)

    def loss(
        self,
        logits: Logits,
        labels: Tensor,
        teacher_logits: Logits | None,
        images: Tensor | None = None,
        taps: list[Tensor] | None = None,
    ) -> PerExample:
        """Compute the training loss of each example, (k, n): the sum of `terms`."""
        return reduce(add, self.terms(logits, labels, teacher_logits, images, taps).values())

    def terms(
        self,
        logits: Logits,
        labels: Tensor,
        teacher_logits: Logits | None,
        images: Tensor | None = None,
        taps: list[Tensor] | None = None,
    ) -> Mapping[str, PerExample]:
        """Compute the weighted terms of the training loss, (k, n) each.

        Args:
            logits: Outputs, (k, n, classes).
            labels: Classes, (k, n).
            teacher_logits: Outputs of the teachers for the same images, as returned by `teacher_logits`.
            images: The images as the network saw them, (k, n, c, h, w); required with features.
            taps: Outputs at the points, as `forward` appended them; required if the recipe `needs_features`.
        """
        label_loss = self._label_loss if self.teachers is not None else None
        inputs = LossInputs(logits, labels, teacher_logits, label_loss)
        if self.shared_recipe.needs_features:
            assert taps is not None, "the loss reads features"
            assert images is not None, "the loss reads features"
            teachers = self.teachers if "teacher.features" in self._loss.needs else None
            inputs = with_features(inputs, self.state, taps, images, teachers, self.shared_recipe.precision)
        return self._loss.terms(inputs)

    def teacher_logits(self, index: Indices, views: Tensor | None, epoch: int | Tensor | None = None) -> Logits | None:
        """Return the teachers' outputs that the students learn from, (k, n, classes); None if the loss does not need any.

        Args:
            index: Indices into the training set, (k, n).
            views: The images as the students see them; required with augmentation.
            epoch: The epoch of their augmentation; None without.
        """
        if self.teachers is None or "teacher.logits" not in self.shared_recipe.loss.needs:
            return None
        targets = Targets(self.teachers, self.data, self.shared_recipe, self._augment_keys, self._placebo)
        return targets(index, views, epoch)

    def rates(self, epoch: int, batch_index: int) -> tuple[list[float], float | None]:
        """Return the learning rate of each replica at a step, and the momentum if the schedule changes it."""
        recipe = self.shared_recipe
        position = Position(epoch, batch_index, recipe.epochs, self.steps_per_epoch)
        schedule = recipe.schedule
        lr = [
            schedule.lr_at(replica.lr, position, memory)
            for replica, memory in zip(self.recipes, self.state.memories, strict=True)
        ]
        momentum = schedule.momentum(position) if schedule.per_step else None
        if plugin_of(schedule) is None:
            return lr, momentum
        return [checked_rate(schedule, rate, position) for rate in lr], checked_momentum(schedule, momentum)

    def batch(self, index: Indices, epoch: int | Tensor | None) -> Tensor:
        """Return normalized images at `index`, (k, n, c, h, w), with the augmentation of `epoch` if there is one."""
        if epoch is None or not self.shared_recipe.augment:
            return self.data.batch(index)
        images = augment(self.data.images[index], self._augment_keys, epoch, index, self.shared_recipe.augment)
        return self.data.normalize(images)

    def forward(
        self, images: Tensor, mode: Mode, keys: Tensor | None = None, taps: list[Tensor] | None = None
    ) -> Logits:
        """Compute logits in the precision of the trial. They are returned in the format of the parameters."""
        with autocast_for(self.shared_recipe.precision, self.device):
            params, buffers = self._with_frozen(self.state.params, self.state.buffers), self.state.buffers
            logits = self.state.network(params, buffers, images, mode, keys, taps)
        return logits.to(param_dtype(self.shared_recipe.precision))

    def predict_stored(self, params: Tensors, buffers: Tensors, images: Shaped[Tensor, "n c h w"]) -> Logits:
        """As `predict`, for images of all replicas that are not normalized."""
        if isinstance(self.predictor, PredictsPixels) and images.dtype == torch.uint8:
            return self.predictor.predict_pixels(params, buffers, images)
        normalized = self.data.normalize(images)
        return self.predict(params, buffers, normalized.expand(len(self.recipes), -1, -1, -1, -1))

    @torch.no_grad()
    def predict(self, params: Tensors, buffers: Tensors, images: Images) -> Logits:
        """Compute logits with the running statistics, in the format of the parameters, without side effects."""
        if self.predictor is not None:
            return self.predictor.predict(params, buffers, images)
        params = self._with_frozen(params, buffers)
        with autocast_for(self.shared_recipe.precision, self.device):
            if self.replica_trainers:
                logits = torch.cat(
                    [
                        trainer.state.network(
                            select_replica(params, slot), select_replica(buffers, slot), images[slot : slot + 1], "eval"
                        )
                        for slot, trainer in enumerate(self.replica_trainers)
                    ]
                )
            else:
                logits = self.state.network(params, buffers, images, "eval")
        return logits.to(param_dtype(self.shared_recipe.precision))

    def _with_frozen(self, params: Tensors, buffers: Tensors) -> Tensors:
        """Return the learned tensors together with the frozen ones."""
        return {**buffers, **params} if self.shared_recipe.frozen else params

    def keys(self, purpose: str, *keys: int) -> Tensor:
        """Return one random key per replica for a purpose, (k,) int64."""
        return self._key_tensor([derive_seed(recipe.seed, purpose, *keys) for recipe in self.recipes])

    def order_keys(self, epoch: int) -> Tensor:
        """Return the random keys of the order of the images in an epoch, (k,) int64."""
        streams = [[recipe.order_stream] if recipe.order_stream else [] for recipe in self.recipes]
        pairs = zip(self.recipes, streams, strict=True)
        return self._key_tensor([derive_seed(recipe.seed, "order", epoch, *stream) for recipe, stream in pairs])

    def _key_tensor(self, seeds: Sequence[int]) -> Tensor:
        return torch.tensor([seed - 2**63 for seed in seeds], dtype=torch.int64, device=self.device)

    def replica(self, slot: int) -> "PackTrainer":
        """Return one replica at the current step as a pack that shares the memory of this one."""
        trainer, state, rows = copy.copy(self), self.state, slice(slot, slot + 1)

        def row(component: Any) -> Any:
            return stack_components([component], lambda values: _row(values[0], rows))

        trainer.recipes, trainer.shared_recipe = (self.recipes[slot],), self.recipes[slot]
        trainer.train_index, trainer.validation_index = self.train_index[rows], self.validation_index[rows]
        trainer.teachers, trainer._placebo = self.teachers and self.teachers.replica(slot), self._placebo.replica(slot)
        trainer.weight_decay = scalar_or_tensor([self.recipes[slot].optimizer.weight_decay], self.device)
        trainer.replica_trainers, trainer._augment_keys = (), self._augment_keys[rows]
        trainer.predictor = None  # it computes this pack
        trainer.optimizer, trainer._loss, trainer._label_loss = map(row, (self.optimizer, self._loss, self._label_loss))
        trainer.state = replace(
            state,
            network=PackedNetwork([self.recipes[slot].architecture], self.device),
            params={name: param.requires_grad_() for name, param in select_replica(state.params, slot).items()},
            buffers=select_replica(state.buffers, slot),
            optimizer_state={
                name: [tensor[rows] for tensor in tensors] for name, tensors in state.optimizer_state.items()
            },
            memories=state.memories[rows],
            diverged_at_step=state.diverged_at_step[rows],
            epoch_sums=state.epoch_sums[:, rows],
        )
        return trainer

    def _stack_options(self, numbers: Sequence[float]) -> float | Tensor:
        value = scalar_or_tensor(numbers, self.device)
        return value.to(param_dtype(self.shared_recipe.precision)).unsqueeze(1) if isinstance(value, Tensor) else value

    def copied(self) -> "PackTrainer":
        """Return a trainer with copies of all tensors that training changes. It must not train."""
        trainer, state = copy.copy(self), self.state

        def copies(tensors: Tensors) -> Tensors:
            return {
                name: tensor.detach().clone().requires_grad_(tensor.requires_grad) for name, tensor in tensors.items()
            }

        trainer.state = replace(
            state,
            params=copies(state.params),
            buffers=copies(state.buffers),
            optimizer_state={
                name: [tensor.clone() for tensor in tensors] for name, tensors in state.optimizer_state.items()
            },
            memories=[dict(memory) for memory in state.memories],
        )
        return trainer


def _row(value: Any, rows: slice) -> Any:
    """An option of one replica: an entry of a tensor, or a value that all replicas share."""
    return value[rows] if isinstance(value, Tensor) else value
