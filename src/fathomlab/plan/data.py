"""The section `data` of an experiment file with the dataset that it names."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fathomlab.base.errors import Issue, UserError, unknown_name
from fathomlab.base.options import parse, to_dict
from fathomlab.base.output import escape_control_chars
from fathomlab.config.components import Components
from fathomlab.config.plugins import Plugin
from fathomlab.config.schema import DataOptions
from fathomlab.data import DATASETS, canonical_name
from fathomlab.data.table import AUGMENTATIONS, Dataset, DatasetInfo
from fathomlab.data.users import UserDataset
from fathomlab.plan.objectives import BUILT_IN


@dataclass(frozen=True)
class Data:
    """A dataset, and how it is split, batched, and augmented.

    Attributes:
        component: The dataset with its options, or a user's dataset.
        batch_size: Images per training step.
        validation_split: Training images held out for validation (%).
        augment: Names of augmentations, in the order in which they are applied.
        limit: Number of training images to use; None for all.
        drop_last: Whether an incomplete last batch is left out.
        order_stream: Selects the random stream of the order of the images.
        plugin: The plugin with the function that returns the dataset; None for other datasets.
    """

    component: Dataset | UserDataset
    batch_size: int
    validation_split: float
    augment: tuple[str, ...]
    limit: int | None
    drop_last: bool
    order_stream: int = 0
    plugin: Plugin | None = None

    @property
    def info(self) -> DatasetInfo:
        """Facts about the dataset that are known without reading it."""
        return self.component.info

    @property
    def split_sizes(self) -> tuple[int, int]:
        """Number of training and of validation images."""
        images = self.limit or self.info.train_examples
        held_out = round(images * self.validation_split / 100)
        return images - held_out, held_out

    @property
    def images_per_epoch(self) -> int:
        """Number of training images that an epoch uses."""
        images, _ = self.split_sizes
        return images - images % self.batch_size if self.drop_last else images

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """What identifies the dataset: name and options; of a user's dataset, also its content or its code."""
        if isinstance(self.component, UserDataset):
            return self.component.identity
        return {"name": self.info.name, "params": to_dict(self.component)}

    @cached_property
    def plain(self) -> dict[str, Any]:
        """The section as plain data. The digest of a plugin is in another section of a trial."""
        options = {field: getattr(self, field) for field in ("batch_size", "validation_split", "limit")}
        added = {field: getattr(self, field) for field in ("drop_last", "order_stream")}
        later = {field: value for field, value in added.items() if value}  # their defaults are not part of the identity
        name, rest = self.info.name, {key: self.identity[key] for key in self.identity if key not in ("name", "plugin")}
        return {"name": name, "augment": list(self.augment), **options, **rest, **later}


def read_data(
    raw: Any,
    path: str,
    default: str,
    problems: list[Issue],
    notices: dict[str, None],
    components: Components = BUILT_IN,
    stored: UserDataset | None = None,
) -> Data | None:
    """Read `data`, or the section of a role.

    `default` is the dataset if the section names none, `stored` the user's dataset that a trial in a store names.
    """
    before = len(problems)
    if stored is not None and isinstance(raw, Mapping):
        raw = {key: value for key, value in raw.items() if key != "sha256"}  # what identifies it is not an option
    options = parse(DataOptions, raw, path, problems)
    if not isinstance(options, DataOptions):
        return None
    for index, augmentation in enumerate(options.augment):
        if text := unknown_name("augmentation", augmentation, AUGMENTATIONS):
            problems.append(Issue("unknown-name", f"{path}.augment[{index}]", text))
    dataset = stored or _dataset(options, path, default, problems, components)
    if dataset is None:
        return None
    info = dataset.info
    if options.limit is not None and options.limit > info.train_examples:
        text = f"must be <= {info.train_examples}, the number of training images of {info.name}, got {options.limit}"
        problems.append(Issue("data-mismatch", f"{path}.limit", text))
    if len(problems) > before:
        return None
    if options.num_workers:
        notices.setdefault(f"{path}.num_workers is ignored: datasets stay in device memory.")
    augment = tuple(word for word in AUGMENTATIONS if word in options.augment)
    split = options.batch_size, options.validation_split
    origin = dataset.plugin if isinstance(dataset, UserDataset) else ""
    plugin = next((plugin for plugin in components.plugins if plugin.sha256 == origin), None)
    return Data(dataset, *split, augment, options.limit, options.drop_last, options.order_stream, plugin)


def _dataset(
    options: DataOptions, path: str, default: str, problems: list[Issue], components: Components
) -> Dataset | UserDataset | None:
    """The dataset that a section names. A user's dataset is loaded the first time."""
    if components.user_data.given is not None:
        if options.name is None and not options.params:
            return components.user_data.given
        text = "cannot be combined with the argument data; remove one or the other"
        problems.append(Issue("conflict", f"{path}.{'params' if options.name is None else 'name'}", text))
        return None
    name = canonical_name(default if options.name is None else options.name, components.datasets)
    if name is None:
        text = components.unsupported(components.datasets, default if options.name is None else options.name)
        problems.append(Issue("unknown-name", f"{path}.name", text))
        return None
    component = components.datasets.make(name, options.params, f"{path}.params", problems)
    if component is None or name in DATASETS:
        return component
    try:
        return components.user_data.load(name, component)
    except UserError as error:
        location = f"{path}.{component.option_of_source}"
        problems.append(Issue(error.code, location, escape_control_chars(str(error))))
        return None
