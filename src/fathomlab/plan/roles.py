"""The roles of an experiment: the networks that it trains, where their options are, and which roles they build on."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, get_args

from fathomlab.base.errors import Issue, did_you_mean, format_value
from fathomlab.base.labels import Levels
from fathomlab.base.options import INVALID, parse
from fathomlab.config.load import Loaded
from fathomlab.config.paths import get_path
from fathomlab.config.schema import Factor, Parent, ParentOptions, RoleOptions

Roles: TypeAlias = Mapping[str, "Role"]
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
PARENTS: tuple[Parent, ...] = get_args(Parent)
PAIR_SECTIONS = ("teacher_model", "student_model", "training_teacher", "training_student")


@dataclass(frozen=True)
class Role:
    """A kind of network in an experiment.

    Attributes:
        name: Its name in labels, claims, and results.
        model: Dotted key of the section with its model.
        training: Dotted key of the section with its training.
        data: Dotted key of the section with its dataset.
        distillation: Dotted key of the section with its loss if it has a teacher.
        parents: The roles that it builds on.
        parents_key: Dotted key of the section with its parents; empty if the file cannot change them.
        equal_compute: The role whose training MACs it spends on longer training; empty if there is none.
        seed_offset: Added to each seed.
    """

    name: str
    model: str = "model"
    training: str = "training"
    data: str = "data"
    distillation: str = "distillation"
    parents: ParentOptions = field(default_factory=ParentOptions)
    parents_key: str = ""
    equal_compute: str = ""
    seed_offset: int = 0

    def sections(self, distilled: bool) -> tuple[str, ...]:
        """Dotted keys of the sections that decide its numbers, without those of its parents."""
        keys = (self.data, self.model, self.training, self.distillation * distilled)
        parents = (f"{self.parents_key}.{name}" for name in PARENTS) if self.parents_key else ()
        return (*(key for key in keys if key), *parents)

    def reads(self, key: str, distilled: bool) -> bool:
        """Whether its numbers depend on a dotted key, other than through its parents."""
        if key == f"{self.training}.emulate" and not distilled:  # mistakes of distillation
            return False
        return any(is_below(key, section) for section in self.sections(distilled))

    def parents_at(self, levels: Levels) -> tuple[tuple[Parent, str], ...]:
        """The roles that it builds on at these levels of the factors: teachers, then the one whose weights it starts from."""
        parents = self.parents
        for name in PARENTS:
            key = f"{self.parents_key}.{name}"
            if self.parents_key and key in levels:
                level = levels[key]
                parents = replace(parents, **{name: tuple(level) if isinstance(level, list | tuple) else level})
        return parents.named


def roles_of(loaded: Loaded, factors: Mapping[str, Factor], problems: list[Issue]) -> dict[str, Role]:
    """The roles of the file's networks; none if something that they need is missing."""
    data = loaded.document.data
    pair = [name for name in (*PAIR_SECTIONS, "distillation") if data.get(name) is not None]
    if "roles" in data:
        single = [name for name in ("model", "training") if data.get(name) is not None]
        for name in (*single, *(name for name in pair if name != "distillation")):
            problems.append(Issue("conflict", name, "cannot be combined with roles; remove one or the other"))
        return _roles_of_file(loaded.file.roles, factors, problems)
    if pair and data.get("model") is not None:
        text = "cannot be combined with teacher_model and student_model; remove one or the other"
        problems.append(Issue("conflict", "model", text))
    required = PAIR_SECTIONS if pair else ("model", "training")
    missing = [name for name in required if data.get(name) is None]
    problems += [Issue("missing-section", "", f"missing section '{name}'") for name in missing]
    if missing:
        return {}
    if not pair:
        return {"supervised": Role("supervised")}
    baseline = Role("baseline", "student_model", "training_student")
    roles = (
        Role("teacher", "teacher_model", "training_teacher"),
        baseline,
        replace(baseline, name="distilled", parents=ParentOptions("teacher")),
    )
    return {role.name: role for role in roles}


def reads(roles: Roles, role: Role, key: str, levels: Levels) -> bool:
    """Whether the trials of a role depend on a dotted key, directly or through the roles that they build on."""
    parents = role.parents_at(levels)
    distilled = any(kind == "teacher" for kind, _ in parents)
    direct = role.reads(key, distilled) or decides_compute(roles, role, key)
    return direct or any(reads(roles, roles[name], key, levels) for _, name in parents)


def decides_compute(roles: Roles, role: Role, key: str) -> bool:
    """Whether the training MACs of the role that `equal_compute` names may depend on a dotted key."""
    if not role.equal_compute:
        return False
    named = roles[role.equal_compute]
    sections = (named.data, named.model, f"{named.training}.epochs")
    return any(is_below(key, section) or is_below(section, key) for section in sections) or decides_compute(
        roles, named, key
    )


def may_distill(role: Role, factors: Mapping[str, Factor]) -> bool:
    """Whether a role has a teacher at some level of the factors."""
    return role.parents.teacher is not None or f"{role.parents_key}.teacher" in factors


def emulation_notices(loaded: Loaded, factors: Mapping[str, Factor], roles: Roles) -> dict[str, None]:
    """A notice for each section with mistakes of distillation that is not the training of a student."""
    students = {role.training for role in roles.values() if may_distill(role, factors)}
    others = dict.fromkeys(role.training for role in roles.values() if role.training not in students)
    keys = [f"{section}.emulate" for section in others]
    used = [key for key in keys if key in factors or get_path(loaded.document.data, key)]
    return dict.fromkeys(f"{key}: no effect, because no role with this training has a teacher." for key in used)


def is_below(key: str, section: str) -> bool:
    """Whether a dotted key is a section or inside it."""
    return key == section or key.startswith(f"{section}.")


def _roles_of_file(
    options: Mapping[str, RoleOptions], factors: Mapping[str, Factor], problems: list[Issue]
) -> dict[str, Role]:
    """The roles in the file's `roles`, after checking that their parents exist and form no cycle."""
    before = len(problems)
    roles = {name: _role(name, role) for name, role in options.items()}
    if not roles and not any(is_below(problem.path, "roles") for problem in problems):
        problems.append(Issue("missing-key", "roles", "must have at least one role, got {}"))
    builds_on: dict[str, dict[str, str]] = {}
    for name, role in roles.items():
        path = f"roles.{name}"
        if not NAME.fullmatch(name):
            text = f"invalid name {format_value(name)}: must be a letter, then letters, digits, - or _"
            problems.append(Issue("invalid-key", path, text))
        declared = _declared_parents(role, factors, problems)
        distilled = any(parents.teacher is not None for _, parents in declared)
        if options[name].distillation is not None and not distilled:
            text = "requires a teacher; set parents.teacher, or remove it"
            problems.append(Issue("conflict", f"{path}.distillation", text))
        for key, parents in declared:
            problems += _parent_problems(key, parents, roles)
        builds_on[name] = {parent: key for key, parents in declared for _, parent in parents.named}
        if options[name].equal_compute is not None:
            problems += _compute_problems(role, distilled, factors, roles)
            builds_on[name][role.equal_compute] = f"{path}.equal_compute"
    if len(problems) == before and (cycle := _cycle(builds_on)):
        text = f"builds on itself: {' -> '.join(cycle)}"
        problems.append(Issue("cycle", builds_on[cycle[0]][cycle[1]], text))
    return roles if len(problems) == before else {}


def _role(name: str, options: RoleOptions) -> Role:
    path = f"roles.{name}"
    return Role(
        name,
        model=f"{path}.model",
        training=f"{path}.training",
        data="data" if options.data is None else f"{path}.data",
        distillation="distillation" if options.distillation is None else f"{path}.distillation",
        parents=options.parents,
        parents_key=f"{path}.parents",
        equal_compute=options.equal_compute or "",
        seed_offset=options.seed_offset,
    )


def _declared_parents(
    role: Role, factors: Mapping[str, Factor], problems: list[Issue]
) -> list[tuple[str, ParentOptions]]:
    """The parents of a role with the dotted key that declares them: its options, and the levels of factors."""
    declared = [(role.parents_key, role.parents)]
    for key, factor in factors.items():
        if key.startswith(f"{role.parents_key}."):
            kind, path = key.removeprefix(f"{role.parents_key}."), f"experiment.factors.{role.parents_key}"
            for level in factor.levels:
                parents = parse(ParentOptions, {kind: level}, path, problems)
                declared += [] if parents is INVALID else [(f"{path}.{kind}", parents)]
    return declared


def _parent_problems(key: str, parents: ParentOptions, roles: Roles) -> list[Issue]:
    """Parents that are no roles, and members of an ensemble that are named twice."""
    is_level = key.startswith("experiment.")
    teacher = key if is_level else f"{key}.teacher"
    problems = []
    for kind, name in parents.named:
        if name not in roles:
            hint = did_you_mean(name, tuple(roles)) or f" Roles: {', '.join(roles)}."
            path = key if is_level else f"{key}.{kind}"
            problems.append(Issue("unknown-name", path, f"unknown role {format_value(name)}.{hint}"))
    if parents.teacher == ():
        problems.append(Issue("missing-key", teacher, "must have at least one role, got []; use null for no teacher"))
    if len(set(parents.teachers)) < len(parents.teachers):
        problems.append(Issue("conflict", teacher, "duplicate teacher; members of an ensemble are different roles"))
    return problems


def _compute_problems(role: Role, distilled: bool, factors: Mapping[str, Factor], roles: Roles) -> list[Issue]:
    """An `equal_compute` that names no role, of a role with a teacher, or together with a factor over the epochs that it sets."""
    path, name, epochs = f"roles.{role.name}.equal_compute", role.equal_compute, f"{role.training}.epochs"
    problems = []
    if name not in roles:
        hint = did_you_mean(name, tuple(roles)) or f" Roles: {', '.join(roles)}."
        problems.append(Issue("unknown-name", path, f"unknown role {format_value(name)}.{hint}"))
    if distilled:
        text = f"not allowed for a role with a teacher, got {format_value(name)}; remove it, or parents.teacher"
        problems.append(Issue("conflict", path, text))
    for key in factors:
        if is_below(epochs, key):
            text = f"cannot vary what roles.{role.name}.equal_compute sets; remove one or the other"
            problems.append(Issue("conflict", f"experiment.factors.{key}", text))
    return problems


def _cycle(builds_on: Mapping[str, Iterable[str]]) -> Sequence[str]:
    """Names of roles that build on each other in a circle, the first one repeated at the end; empty without one."""

    def search(path: tuple[str, ...]) -> Sequence[str]:
        for parent in sorted(builds_on.get(path[-1], ())):
            if parent in path:
                return (*path[path.index(parent) :], parent)
            if parent not in finished and (cycle := search((*path, parent))):
                return cycle
        finished.add(path[-1])
        return ()

    finished: set[str] = set()
    return next((cycle for name in builds_on if name not in finished and (cycle := search((name,)))), ())
