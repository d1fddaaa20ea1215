"""What the networks of a role learn from and start from, in words."""

from typing import Any, cast

from fathomlab.analysis.options import option
from fathomlab.analysis.study import Study
from fathomlab.plan.trial import parent_hashes
from fathomlab.report.numbers import listed

LAB = {"distilled": [("teacher",)]}  # the roles of the sections of a teacher and a student


def parent_roles(study: Study, kind: str) -> dict[str, list[tuple[str, ...]]]:
    """The roles that each role builds on: alternatives over its conditions, each with the members of an ensemble."""
    role_of = {trial.trial: condition.record.role for condition, _, trial in study.trials}
    roles: dict[str, list[tuple[str, ...]]] = {}
    for condition, _, trial in study.trials:
        hashes = [name for each, name in parent_hashes(trial.content) if each == kind]
        members = tuple(role_of.get(name, "another network") for name in hashes)
        if members and members not in roles.setdefault(condition.record.role, []):
            roles[condition.record.role].append(members)
    return roles


def has_own_roles(study: Study) -> bool:
    """Whether roles other than those of a teacher and a student learn from others."""
    return parent_roles(study, "teacher") not in ({}, LAB)


def ensemble(members: tuple[str, ...]) -> str:
    """The members of an ensemble: "a", or "the mean of the logits of a and b"."""
    return members[0] if len(members) == 1 else f"the mean of the logits of {listed(members)}"


def learned_from(study: Study) -> str:
    """A sentence about the teachers of each role; "" for a teacher and its students."""
    if not has_own_roles(study):
        return ""
    students = [
        f"{role} learned from {' or from '.join(map(ensemble, alternatives))}"
        for role, alternatives in parent_roles(study, "teacher").items()
    ]
    return f"Of these, {'; '.join(students)}."


def started_from(study: Study) -> str:
    """A sentence about the roles that start from the weights of others; "" without any."""
    roles = [
        f"{role} from those of {' or '.join(map(ensemble, alternatives))}"
        for role, alternatives in parent_roles(study, "start").items()
    ]
    return f"Some networks started from the weights of others with the same seed: {listed(roles)}." if roles else ""


def seed_offsets(study: Study) -> str:
    """A sentence about the roles whose random streams have another root than the seed; "" without any."""
    offsets: dict[str, int] = {}
    for condition, seed, trial in study.trials:
        root: Any = trial.content.get("seed")
        if isinstance(root, int) and root != seed:
            offsets[condition.record.role] = root - seed
    texts = [f"{role} adds {offset} to each seed" for role, offset in offsets.items()]
    return f"To differ from others, {listed(texts)}." if texts else ""


def frozen_parameters(study: Study) -> str:
    """Which parameters of which conditions kept their initial values."""
    frozen: dict[str, list[str]] = {}
    for condition in study.conditions:
        lists = [option(trial, "training.frozen") for _, trial in condition.trials]
        names = next((cast("list[object]", value) for value in lists if isinstance(value, list) and value), None)
        if names:
            total, trained = condition.total_parameters, condition.parameters
            counts = f" ({trained:,} of {total:,} trained)" if total is not None and trained is not None else ""
            frozen.setdefault(listed([str(name) for name in names]), []).append(condition.name + counts)
    some = [
        f"{what} of {listed(names)}" if len(names) < len(study.conditions) else what for what, names in frozen.items()
    ]
    return f"Frozen parameters: {'; '.join(some)}." if some else ""
