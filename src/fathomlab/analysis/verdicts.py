"""From claims and trials to verdicts: supported, refuted, or undecided."""

from dataclasses import dataclass, field
from typing import Literal

from fathomlab.analysis.contrasts import Contrast, ImageTest, contrast, per_image_test
from fathomlab.analysis.evidence import ClaimEvidence, evaluate, seeds_needed
from fathomlab.analysis.looks import LookHistory
from fathomlab.analysis.sequential import level_now
from fathomlab.analysis.significance import ONE_SIDED, SignFlip, correlation, holm_adjusted, holm_levels, is_constant
from fathomlab.analysis.statistics import FEWEST_FOR_BOOTSTRAP, Interval, bootstrap_interval, wilson_interval
from fathomlab.analysis.study import Study
from fathomlab.base.errors import ConfigError
from fathomlab.config.claims import Claim

Decision = Literal["supported", "refuted", "undecided"]


@dataclass(frozen=True)
class Tests:
    """The statistics behind a decision.

    Attributes:
        p: In the claimed direction: one-sided, or from two one-sided tests for a claim of no difference.
        p_against: One-sided, for the opposite.
        p_holm: The smaller of both, Holm-adjusted: at most 2.5% if it decides, 5% for a claim of no difference.
        level: One-sided level of the decision, after Holm's procedure and alpha spending.
        claims: Number of claims that share the error level.
        sign_flip: Distribution-free check; None for claims of no difference and for a single level of a success claim.
        sd: Standard deviation of the paired differences; for a success, that of one seed's outcome.
        correlation: Pearson's, of the two levels over seeds; None for fewer than three pairs.
        bootstraps: 95% percentile bootstraps of the mean and of the interquartile mean; empty below 20 seeds,
            without spread, and for successes.
    """

    p: float
    p_against: float
    p_holm: float
    level: float
    claims: int = 1
    sign_flip: SignFlip | None = None
    sd: float | None = None
    correlation: float | None = None
    bootstraps: tuple[Interval, ...] = ()


@dataclass(frozen=True)
class Success:
    """How many seeds of a level are above the threshold, with the 95% Wilson interval of the fraction."""

    level: str
    successes: int
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Advice:
    """What would decide an open claim.

    Attributes:
        more_seeds: About how many more seeds should decide; None if decided, blocked, or above 1,000.
        detectable: Smallest effect that the seeds so far detect with a probability of about 80%.
        distance: From the effect to the nearest threshold of a decision.
        blocked: Whether divergence keeps the claim from being decided, however many seeds there are.
    """

    more_seeds: int | None = None
    detectable: float | None = None
    distance: float = 0.0
    blocked: bool = False


@dataclass(frozen=True, repr=False)
class Verdict:
    """The outcome for one claim. Effects are fractions (accuracies, successes) or nats (losses).

    Attributes:
        effect: Mean effect with its 95% interval; None without a value.
        success: One for each level of a success claim; empty for other claims.
        images: Comparison image by image; None if there is none.
        looks: Analyses of the same question with other numbers of seeds.
        exploratory: Whether the claim was added after results existed.
    """

    contrast: Contrast
    decision: Decision
    effect: Interval | None
    tests: Tests
    success: tuple[Success, ...] = ()
    advice: Advice = Advice()
    images: ImageTest | None = None
    looks: LookHistory = field(default_factory=LookHistory)
    exploratory: bool = False

    @property
    def claim(self) -> Claim:
        """The claim that it judges."""
        return self.contrast.claim

    @property
    def n(self) -> int:
        """Number of seeds behind the effect."""
        return self.effect.n if self.effect else 0

    def __str__(self) -> str:
        """Decision, claim, and finding, as `fathomlab run` prints them."""
        from fathomlab.analysis.wording import sentence  # it imports this module

        return f"{self.decision}: {sentence(self)}"

    def __repr__(self) -> str:
        """Decision, claim, and finding in one short line."""
        text = str(self)
        return f"<{text if len(text) <= 200 else text[:197] + '...'}>"


def judge(study: Study) -> tuple[Verdict, ...]:
    """The verdict on each declared claim, in the order of the file.

    Decisions are one-sided tests against the smallest effect that matters at 2.5% (paired t tests; exact tests for fractions),
    Holm-adjusted over the claims, at the level of the look if the seeds were analyzed before. A claim of no difference
    needs its 90% interval inside +-that effect (TOST).

    A diverged seed counts as a failure in success claims and as chance accuracy in differences of accuracies. If a seed
    diverged, claims of no difference are never supported, and trends and losses stay undecided.

    Raises:
        ConfigError: If the claims cannot be evaluated.
    """
    if study.problems:
        raise ConfigError("the experiment's record", study.problems)
    results = [evaluate(contrast(study, claim)) for claim in study.claims]
    p_values = [evidence.decisive_p for evidence in results]
    looks = study.looks
    levels = holm_levels(p_values, lambda remaining: level_now(looks.looks, looks.n, ONE_SIDED / remaining))
    adjusted = holm_adjusted(p_values)
    return tuple(
        _decide(study, evidence, level, p_holm)
        for evidence, level, p_holm in zip(results, levels, adjusted, strict=True)
    )


def _decide(study: Study, evidence: ClaimEvidence, level: float, p_holm: float) -> Verdict:
    contrast, looks, claims = evidence.contrast, study.looks, len(study.claims)
    decided = level > 0 and evidence.decisive_p <= level
    later = max(level, ONE_SIDED / claims) if looks.looks else level  # the level grows from look to look
    scale = 2 if contrast.claim.expect == "equal" else 1
    pairs = [(pair.first, pair.second) for pair in contrast.pairs if pair.first is not None and pair.second is not None]
    return Verdict(
        contrast=contrast,
        decision="undecided" if not decided else "supported" if evidence.p_for <= level else "refuted",
        effect=evidence.effect,
        tests=Tests(
            p=min(1.0, scale * evidence.p_for),
            p_against=evidence.p_against,
            p_holm=min(1.0, scale * p_holm),
            level=level,
            claims=claims,
            sign_flip=evidence.sign_flip,
            sd=evidence.sd,
            correlation=correlation([first for first, _ in pairs], [second for _, second in pairs]),
            bootstraps=_bootstraps(contrast),
        ),
        success=_successes(contrast),
        advice=Advice(
            more_seeds=None if decided or evidence.blocked else seeds_needed(evidence, later, claims),
            detectable=evidence.detectable,
            distance=evidence.distance,
            blocked=evidence.blocked,
        ),
        images=per_image_test(contrast),
        looks=looks,
        exploratory=study.experiment.claims_late,
    )


def _bootstraps(contrast: Contrast) -> tuple[Interval, ...]:
    values = contrast.differences
    if contrast.claim.kind == "success" or len(values) < FEWEST_FOR_BOOTSTRAP or is_constant(values):
        return ()
    return bootstrap_interval(values), bootstrap_interval(values, "iqm")


def _successes(contrast: Contrast) -> tuple[Success, ...]:
    if contrast.claim.kind != "success":
        return ()
    counts = [contrast.successes(arm) for arm in contrast.arms]
    intervals = [wilson_interval(*count) if count[1] else Interval(0.0, None, None, 0) for count in counts]
    return tuple(
        Success(arm.level, *count, interval.low, interval.high)
        for arm, count, interval in zip(contrast.arms, counts, intervals, strict=True)
    )
