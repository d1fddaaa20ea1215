"""Equal compute: the training MACs of one role, such as a teacher, spent on longer training of another."""

from collections.abc import Sequence
from dataclasses import replace

from fathomlab.base.errors import Issue
from fathomlab.base.identity import canonical_json
from fathomlab.base.labels import Levels
from fathomlab.plan import sections
from fathomlab.plan.data import Data
from fathomlab.plan.roles import Role, Roles, decides_compute, reads
from fathomlab.plan.trial import Blueprint

MAX_EPOCHS = 100_000


def training_macs(data: Data, network: sections.Network, epochs: int) -> int:
    """Multiply-accumulates of the forward passes of a training. Backward passes take twice as many for every network."""
    return network.architecture(data.info).macs * data.images_per_epoch * epochs


def equal_compute_epochs(
    data: Data, network: sections.Network, epochs: int, named: Blueprint, path: str, problems: list[Issue]
) -> int:
    """Epochs after which a network has used its training MACs and those of a named role.

    These are its epochs, plus the MACs of the named training divided by the MACs of one of its epochs, rounded to the nearest
    whole number (a half upwards).

    Args:
        data: What the network is trained on.
        network: The network.
        epochs: Its epochs without those that it gets.
        named: The condition of the named role.
        path: Dotted key of the option.
        problems: Receives what is wrong.
    """
    spent, per_epoch = training_macs(named.data, named.network, named.training.epochs), training_macs(data, network, 1)
    if not per_epoch:
        problems.append(
            Issue("no-compute", path, "the multiply-accumulates of this role's network are unknown; remove it")
        )
        return epochs
    total = epochs + (2 * spent + per_epoch) // (2 * per_epoch)
    if total > MAX_EPOCHS:
        problems.append(Issue("out-of-range", path, f"must give at most {MAX_EPOCHS:,} epochs, got {total:,}"))
        return epochs
    return total


def distinct_conditions(
    roles: Roles, role: Role, planned: Sequence[tuple[Levels, Blueprint]]
) -> list[tuple[Levels, Blueprint]]:
    """The conditions of a role that differ, in order.

    A role with equal compute reads factors of the role that it names. Those that never change its epochs are left out, such as
    the initialization of a teacher. Levels of the others remain conditions, even if two of them round to the same epochs.
    """
    keys = dict.fromkeys(key for levels, _ in planned for key in levels if decides_compute(roles, role, key))
    alone = replace(role, equal_compute="")
    foreign = [key for key in keys if not any(reads(roles, alone, key, levels) for levels, _ in planned)]
    for key in foreign:
        groups: dict[str, set[str]] = {}
        for levels, blueprint in planned:
            groups.setdefault(canonical_json(_without(levels, key)), set()).add(blueprint.key)
        if all(len(trials) == 1 for trials in groups.values()):
            planned = [(_without(levels, key), blueprint) for levels, blueprint in planned]
    unique: dict[tuple[str, str], tuple[Levels, Blueprint]] = {}
    for levels, blueprint in planned:
        named = canonical_json({key: level for key, level in levels.items() if key in foreign}) if foreign else ""
        unique.setdefault((blueprint.key, named), (levels, blueprint))
    return list(unique.values())


def _without(levels: Levels, key: str) -> Levels:
    return {name: level for name, level in levels.items() if name != key}
