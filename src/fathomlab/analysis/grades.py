"""The rows of a table over many hand-ins."""

from dataclasses import dataclass, field

from fathomlab.analysis.edits import OptionValues


@dataclass(frozen=True)
class ClaimGrade:
    """The verdict on a claim, its mean effect with the 95% interval, and what the effect measures (`points` or `nats`)."""

    claim: str
    verdict: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Environments:
    """The different values of what computed the trials of an experiment.

    Attributes:
        torch: Versions of PyTorch.
        processor: Names of processors.
        device: `cpu`, or the name of the GPU.
        backend: What computed the steps.
        code: Version and commit of fathomlab, and the digest of the code that decides numbers.
        modified_data: Data files that are not the published ones.
    """

    torch: tuple[str, ...] = ()
    processor: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    backend: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    modified_data: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grade:
    """An experiment of a student.

    Attributes:
        store: The results directory, archive, or page.
        kind: `store`, `archive`, or `page`. Numbers of a page are what the page says.
        experiment: Name of the experiment; "" if the results cannot be read.
        title: Its title.
        quick: Whether it is a quick run; None if it is unknown.
        overrides: Options that were changed on the command line; None if they are unknown.
        conditions: Number of conditions.
        seeds: The seeds.
        trials: Number of trials.
        finished: Trials that finished.
        diverged: Trials that diverged.
        failed: Trials that failed.
        missing: Trials without an outcome, or with a damaged one.
        claims: The verdict on each claim, in the order of the file.
        claims_hash: Hash of the claims.
        claims_after_results: Whether the claims were added after results existed (exploratory).
        seeds_after_results: Whether seeds were added after results existed.
        damaged: Files that are not what was written.
        environments: What computed the trials.
        problem: Why the results cannot be read, or why the claims have no verdict; "" if there is no reason.
        claims_changed: Whether the claims differ from the reference, or from the majority; None if there is none.
        changed_options: The options that differ from the reference, or from the majority; None if there is none.
        copies_of: Other stores that contain trials of this experiment from the same training.
        copied_trials: Number of these trials.
        shared_trials: Number of trials of this experiment that everybody was given.
        same_seeds: Number of other stores that have this experiment with the same seeds.
    """

    store: str
    kind: str
    experiment: str = ""
    title: str = ""
    quick: bool | None = None
    overrides: tuple[str, ...] | None = None
    conditions: int = 0
    seeds: tuple[int, ...] = ()
    trials: int = 0
    finished: int = 0
    diverged: int = 0
    failed: int = 0
    missing: int = 0
    claims: tuple[ClaimGrade, ...] = ()
    claims_hash: str = ""
    claims_after_results: bool = False
    seeds_after_results: bool = False
    damaged: tuple[str, ...] = ()
    environments: Environments = field(default_factory=Environments)
    problem: str = ""
    claims_changed: bool | None = None
    changed_options: tuple[str, ...] | None = None
    copies_of: tuple[str, ...] = ()
    copied_trials: int = 0
    shared_trials: int = 0
    same_seeds: int = 0


@dataclass(frozen=True)
class Graded:
    """A row with what it is compared by: the values of each option, and the hashes of the trials with an outcome."""

    grade: Grade
    options: OptionValues = field(default_factory=dict[str, tuple[str, ...]])
    hashes: frozenset[str] = frozenset()
