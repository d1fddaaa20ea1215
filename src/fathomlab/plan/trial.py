"""A trial: one network to train, with its components."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from fathomlab.base.codec import from_plain, to_plain
from fathomlab.base.errors import Issue
from fathomlab.base.identity import canonical_json
from fathomlab.config.components import Components, with_plugins
from fathomlab.config.plugins import Plugin, plugin_of
from fathomlab.losses import Loss
from fathomlab.losses.distillation import Distillation
from fathomlab.plan import sections
from fathomlab.plan.objectives import BUILT_IN, distillation_loss, plain_distillation
from fathomlab.plan.recipe import Recipe

FORMAT = 2


@dataclass(frozen=True)
class Trial:
    """One network to train. Trials with equal canonical JSON are equal.

    Attributes:
        canonical_json: Everything that decides the trial's numbers; its SHA-256 is the trial's identity.
        recipe: How it is trained.
        data: Its dataset and how it is split.
        probes: What is measured.
        teacher: The trial that it learns from: the teacher with the same seed, or None.
        plugins: The plugins that define its components, sorted by name.
    """

    canonical_json: str
    recipe: Recipe = field(compare=False, repr=False)
    data: sections.Data = field(compare=False, repr=False)
    probes: tuple[sections.Measurement, ...] = field(compare=False, repr=False)
    teacher: "Trial | None" = field(compare=False, repr=False)
    plugins: tuple[Plugin, ...] = field(default=(), compare=False, repr=False)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON: the trial's identity, directory, and cache key."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()

    @property
    def content(self) -> dict[str, Any]:
        """The options as plain data, nested, for the file in the store."""
        return json.loads(self.canonical_json)

    @property
    def seed(self) -> int:
        """Root of the trial's random streams."""
        return self.recipe.seed


@dataclass(frozen=True)
class Blueprint:
    """A condition without its seeds.

    Attributes:
        data: Dataset and split.
        network: The model.
        training: How it is trained.
        probes: What is measured.
        distillation: Weight and temperature, or None.
        teacher: The condition of the teachers if the networks are distilled.
    """

    data: sections.Data
    network: sections.Network
    training: sections.Training
    probes: tuple[sections.Measurement, ...]
    distillation: Loss | None = None
    teacher: "Blueprint | None" = None

    @cached_property
    def content(self) -> dict[str, Any]:
        """The options as plain data, without the seed."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "data": self.data.plain,
            "model": self.network.plain,
            "training": self.training.plain,
            "probes": {probe.name: probe.plain for probe in self.probes},
        }
        if self.distillation is not None and self.teacher is not None:
            content["teacher"] = {"model": self.teacher.network.plain, "training": self.teacher.training.plain}
            content["distillation"] = plain_distillation(self.distillation)
        if self.plugins:
            content["plugins"] = {plugin.name: plugin.sha256 for plugin in self.plugins}
        return content

    @cached_property
    def plugins(self) -> tuple[Plugin, ...]:
        """The plugins that define its components, sorted by name."""
        parts = (self.network.component, self.training.chosen_loss, self.distillation)
        used = {plugin for part in parts if (plugin := plugin_of(part))}
        used |= set(self.teacher.plugins) if self.teacher else set()
        return tuple(sorted(used, key=lambda plugin: plugin.name))

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of a trial with seed 0."""
        training, data = self.training, self.data
        loss: Loss = self.distillation or training.loss
        if isinstance(loss, Distillation):
            loss = replace(loss, hard=training.loss)
        return Recipe(
            seed=0,
            architecture=self.network.architecture(data.info),
            loss=loss,
            optimizer=training.optimizer,
            schedule=training.schedule,
            epochs=training.epochs,
            batch_size=data.batch_size,
            lr=training.lr,
            precision=training.precision,
            gradient_clip=training.gradient_clip,
            augment=data.augment,
            validation_split=data.validation_split,
            limit=data.limit,
            drop_last=data.drop_last,
            data=canonical_json({key: data.plain[key] for key in ("name", "params")}),
            teacher=self.teacher.network.architecture(data.info) if self.teacher else None,
        )

    @cached_property
    def _json(self) -> tuple[str, str]:
        """The canonical JSON in front of the seed and after it."""
        before, _, after = canonical_json({**self.content, "seed": "HERE"}).partition('"seed":"HERE"')
        return before, after

    def trial(self, seed: int) -> Trial:
        """The trial with this seed."""
        before, after = self._json
        teacher = self.teacher.trial(seed) if self.teacher else None
        text = f'{before}"seed":{seed}{after}'
        return Trial(text, replace(self.recipe, seed=seed), self.data, self.probes, teacher, self.plugins)


def read_trial(content: Mapping[str, Any], components: Components = BUILT_IN) -> Trial:
    """The trial of plain data, as the store and jobs contain it.

    Args:
        content: As in `Trial.content`.
        components: With the trial's plugins.

    Raises:
        ValueError: If it is not the content of a trial that this version can train.
    """
    problems: list[Issue] = []
    seed, taught_by = content.get("seed"), content.get("teacher")
    if isinstance(seed, bool) or not isinstance(seed, int) or not isinstance(taught_by, Mapping | None):
        raise ValueError("not the content of a trial")
    data = sections.data(content.get("data"), "mnist", problems, {})
    probes = sections.measurements(content.get("probes"), problems)
    network, training = _network(content, problems, components)
    if data is None or network is None or training is None:
        raise ValueError("; ".join(map(str, problems)))
    blueprint = Blueprint(data, network, training, probes)
    if taught_by is not None:
        model, how = _network(taught_by, problems, components)
        distillation = distillation_loss(content.get("distillation"), problems, components)
        if model is None or how is None or distillation is None:
            raise ValueError("; ".join(map(str, problems)))
        blueprint = replace(
            blueprint, distillation=distillation, teacher=replace(blueprint, network=model, training=how)
        )
    trial = blueprint.trial(seed)
    if problems or trial.canonical_json != canonical_json(content):
        raise ValueError("; ".join(map(str, problems)) or "not the content of a trial of this version")
    return trial


def _network(
    content: Mapping[str, Any], problems: list[Issue], components: Components
) -> tuple[sections.Network | None, sections.Training | None]:
    network = sections.network(content.get("model"), "model", problems, {}, components)
    return network, sections.training(content.get("training"), "training", problems, {}, components)


def encode_trial(trial: Trial) -> dict[str, Any]:
    """A trial with its plugins as plain data, for a worker."""
    return {"content": trial.content, "plugins": [to_plain(plugin) for plugin in trial.plugins]}


def decode_trial(data: Mapping[str, Any]) -> Trial:
    """The inverse of `encode_trial`. Loads the plugins.

    Raises:
        ValueError: As `read_trial`.
        UserError: If a plugin has another digest.
    """
    return read_trial(data["content"], with_plugins(from_plain(Plugin, plugin) for plugin in data["plugins"]))
