"""The state of a pack at a step, as probes read it, without side effects."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from fathomlab.base.axes import Images, Indices
from fathomlab.base.identity import make_rng
from fathomlab.engine.adapters import without_adapters
from fathomlab.engine.precision import autocast_for, param_dtype
from fathomlab.engine.state import Tensors, scalar_or_tensor
from fathomlab.engine.step import clip_gradients
from fathomlab.engine.torch_model import plain_module
from fathomlab.engine.training import PackTrainer
from fathomlab.models.functional import to_format
from fathomlab.optim.rates import Rates

PRODUCT_DTYPES = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16"}


class Snapshot:
    """A pack at a step. All measurements use batch statistics, without dropout and augmentation."""

    def __init__(self, trainer: PackTrainer):
        """Read from `trainer` without copying it."""
        self._trainer = trainer
        self.replicas = len(trainer.recipes)
        layers = trainer.shared_recipe.architecture.weight_layers
        self.layers = tuple(name for name in layers if f"{name}.weight" in trainer.state.params)
        self.points = trainer.shared_recipe.architecture.taps
        self.step, self.epoch = trainer.state.step, trainer.state.epoch
        self.classes = trainer.shared_recipe.architecture.classes
        self.dtype = PRODUCT_DTYPES[trainer.shared_recipe.precision]
        self.batch_size = trainer.shared_recipe.batch_size
        self.training_images = trainer.train_index.shape[1]
        self.params = trainer.state.params

    def weights(self) -> list[Tensor]:
        """Return the weight matrix or kernel of each layer, (k, *shape)."""
        return [self.params[f"{name}.weight"] for name in self.layers]

    def probe_batch(self, examples: int) -> Indices:
        """Return indices of `examples` training images per replica; fewer if a batch or the training set is smaller."""
        return self.probe_images(min(examples, self.batch_size, self.training_images))

    def probe_images(self, count: int) -> Indices:
        """Return indices of `count` different training images per replica, (k, count). They depend on (seed, "probe")."""
        rows, recipes = self._trainer.train_index, self._trainer.recipes
        draws = [make_rng(recipe.seed, "probe").choice(rows.shape[1], count, replace=False) for recipe in recipes]
        return torch.stack([row[torch.from_numpy(draw).to(row.device)] for row, draw in zip(rows, draws, strict=True)])

    def images(self, index: Indices) -> Images:
        """Return copies of the normalized training images at `index`, (k, n, c, h, w)."""
        return self._trainer.batch(index, None)

    def labels(self, index: Indices) -> Tensor:
        """Return the classes of the training images at `index`, (k, n)."""
        return self._trainer.data.labels[index]

    def module(self, replica: int = 0) -> torch.nn.Module:
        """Return a replica as a torch module in eval mode. Its weights and running statistics are copies."""
        state = self._trainer.state
        parts = {**without_adapters(state.params), **state.buffers}
        tensors = {name: tensor.detach()[replica] for name, tensor in parts.items()}
        recipe = self._trainer.recipes[replica]
        return plain_module(recipe.architecture, tensors, recipe.precision)

    def loss(self, index: Indices, taps: list[Tensor] | None = None) -> Float[Tensor, ""]:
        """Compute the training loss: the mean over the images at `index`, summed over replicas.

        The gradients of the replicas are separate. The output at every point is appended to `taps`.
        """
        trainer = self._trainer
        images = trainer.batch(index, None)
        if trainer.shared_recipe.frozen and taps is not None:
            images.requires_grad_()  # so that the outputs of frozen layers have gradients
        points = [] if taps is None and trainer.shared_recipe.needs_features else taps
        logits = trainer.forward(images, "probe", None, points)
        return trainer.objective(logits, index, images, points).mean(1).sum()

    def features(self, index: Indices) -> list[Tensor]:
        """Compute the output at every point for the images at `index`."""
        taps: list[Tensor] = []
        self._trainer.forward(self._trainer.batch(index, None), "probe", None, taps)
        return taps

    @torch.no_grad()
    def pooled_maps(self, index: Indices) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the maps before the global average pooling with running statistics, (k, n, units, h, w).

        Returns:
            The maps, and weight (k, classes, units) and bias (k, classes) of the linear layer after the pooling.

        Raises:
            ValueError: If the network does not end with global average pooling and one linear layer.
        """
        if self._trainer.shared_recipe.architecture.map_shape is None:
            raise ValueError("the network does not end with global average pooling and one linear layer")
        trainer, precision = self._trainer, self._trainer.shared_recipe.precision
        tensors = {**trainer.state.buffers, **trainer.state.params}  # the buffers contain frozen parameters
        name = trainer.shared_recipe.architecture.weight_layers[-1]
        with autocast_for(precision, trainer.device):
            maps = trainer.state.network.pooled_maps(tensors, trainer.state.buffers, trainer.batch(index, None))
        maps = maps.unflatten(1, (self.replicas, -1)).transpose(0, 1).to(param_dtype(precision))
        weight, bias = (tensors[f"{name}.{kind}"].detach() for kind in ("weight", "bias"))
        return maps, weight, bias

    def by_replica(self, tap: Tensor) -> Float[Tensor, "k n units cells"]:
        """Reshape features (k, n, d) or maps (n, k * c, h, w) to (k, n, units, cells), with 1 or h * w cells per unit."""
        if tap.dim() == 4:
            return tap.unflatten(1, (self.replicas, -1)).transpose(0, 1).flatten(3)
        return tap.unsqueeze(3)

    @torch.no_grad()
    def next_weights(self, grads: Sequence[Tensor]) -> list[Tensor]:
        """Compute the weights after the next optimizer step with these gradients of all parameters, clipped as in training.

        After the last step, the learning rate of the last step is used.
        """
        trainer, state, recipe = self._trainer, self._trainer.state, self._trainer.shared_recipe
        epoch = min(state.epoch, recipe.epochs - 1)
        batch_index = min(state.step - epoch * trainer.steps_per_epoch, trainer.steps_per_epoch - 1)
        clipped = list(grads)
        if recipe.gradient_clip is not None:
            clip_gradients(clipped, recipe.gradient_clip)
        params = {name: param.detach().clone() for name, param in state.params.items()}
        optimizer_state = {
            name: [tensor.clone() for tensor in tensors] for name, tensors in state.optimizer_state.items()
        }
        lr, momentum = trainer.rates(epoch, batch_index)
        rates = Rates(scalar_or_tensor(lr, trainer.device), trainer.weight_decay, momentum)
        trainer.optimizer.step(list(params.values()), clipped, optimizer_state, state.step + 1, rates)
        return [params[f"{name}.weight"] for name in self.layers]

    def to_float64(self) -> "Snapshot":
        """Return the same snapshot with parameters, statistics, images, and teachers in float64.

        The values are those of the pack in its format. Only computations with them are more precise.
        """
        trainer = copy(self._trainer)
        trainer.recipes = tuple(replace(recipe, precision="fp64") for recipe in trainer.recipes)
        trainer.shared_recipe, trainer.predictor = trainer.recipes[0], None
        data, state = trainer.data, trainer.state
        trainer.data = replace(data, mean=data.mean.double(), scale=data.scale.double())
        params = {name: param.requires_grad_() for name, param in _to_float64(state.params).items()}
        trainer.state = replace(state, params=params, buffers=_to_float64(state.buffers))
        if trainer.teachers is not None:
            members = (
                replace(member, params=_to_float64(member.params), buffers=_to_float64(member.buffers))
                for member in trainer.teachers.members
            )
            trainer.teachers = replace(trainer.teachers, members=tuple(members))
        return Snapshot(trainer)


def _to_float64(tensors: Tensors) -> Tensors:
    return {name: to_format(tensor.detach(), torch.float64) for name, tensor in tensors.items()}
