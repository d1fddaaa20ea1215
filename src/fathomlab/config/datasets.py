"""The users' datasets of one experiment: folders, functions of plugins, and objects. Each is loaded once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fathomlab.base.options import to_dict
from fathomlab.config.plugins import plugin_of
from fathomlab.data.arrays import Arrays, content_sha256, describe
from fathomlab.data.objects import as_arrays
from fathomlab.data.users import DataSource, UserDataset

OBJECT = "arrays"  # the name of a dataset that is not named in a file


@dataclass(frozen=True)
class UserData:
    """What has been loaded for an experiment.

    Attributes:
        directory: The folder that paths of datasets are relative to: that of the experiment file.
        given: The dataset that a Python program passed as an object; it replaces `data.name`.
        arrays: The loaded images and labels by their SHA-256.
        loaded: The dataset of each component.
    """

    directory: Path = Path()
    given: UserDataset | None = None
    arrays: dict[str, Arrays] = field(default_factory=dict[str, Arrays])
    loaded: dict[DataSource, UserDataset] = field(default_factory=dict[DataSource, UserDataset])

    def load(self, name: str, source: DataSource) -> UserDataset:
        """Return the dataset of a component. Its images are read the first time.

        Raises:
            UserError: If they cannot be read.
        """
        if source not in self.loaded:
            plugin, arrays = plugin_of(source), source.read(self.directory)
            options, origin = ({}, "") if plugin is None else (to_dict(source), plugin.sha256)
            dataset = UserDataset(describe(arrays, name, source.title), content_sha256(arrays.by_name), options, origin)
            self.arrays[dataset.sha256], self.loaded[source] = arrays, dataset
        return self.loaded[source]


def user_data(directory: Path, data: Any = None) -> UserData:
    """Return the datasets of an experiment that is read from `directory`, with an object that a program passed.

    Raises:
        UserError: If the object is not a dataset.
    """
    if data is None:
        return UserData(directory)
    arrays = as_arrays(data)
    dataset = UserDataset(describe(arrays, OBJECT, OBJECT), content_sha256(arrays.by_name))
    return UserData(directory, dataset, {dataset.sha256: arrays})
