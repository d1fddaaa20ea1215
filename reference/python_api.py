"""The page of the Python API: directives for mkdocstrings, which renders docstrings when the site is built."""

import fathomlab

INTRODUCTION = """\
# Python API

For users of scripts and notebooks. This page lists every public name. [Python and notebooks](../guides/python.md) has examples.
"""
EXCEPTIONS = tuple(
    name
    for name in dir(fathomlab)
    if isinstance(value := getattr(fathomlab, name), type) and issubclass(value, BaseException)
)
FUNCTIONS = ("run", "load", "open_store", "build_model", "build_loss")
GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Functions": ("Run, plan, open, and build.", FUNCTIONS),
    "Results": (
        "What `run` and `open_store` return.",
        ("Results", "Experiment", "Trials", "StoredTrial", "Runs"),
    ),
    "Data and probes": ("What you pass to fathomlab, and what your own parts use.", ("Arrays", "Column")),
    "Errors": ("What you can fix raises one of these.", EXCEPTIONS),
}
RELATED: dict[str, tuple[str, tuple[str, ...]]] = {
    "Verdicts": (
        "What `results.verdicts` contains.",
        (
            "fathomlab.analysis.verdicts.Verdict",
            "fathomlab.analysis.verdicts.Tests",
            "fathomlab.analysis.verdicts.Success",
            "fathomlab.analysis.verdicts.Advice",
            "fathomlab.analysis.statistics.Interval",
        ),
    ),
    "Lines between networks and spread over seeds": (
        "What `Trials.connectivity` and `Trials.seed_spread` return.",
        (
            "fathomlab.analysis.connectivity.Connectivity",
            "fathomlab.analysis.connectivity.Line",
            "fathomlab.analysis.seed_spread.SeedSpread",
        ),
    ),
    "Your own parts": (
        "What your losses, probes, and optimizers receive. See "
        "[Your own networks, data, and losses](../tutorials/your-own-parts.md).",
        (
            "fathomlab.losses.Signals",
            "fathomlab.models.parameters.Parameter",
            "fathomlab.probes.Snapshot",
            "fathomlab.optim.rates.Rates",
            "fathomlab.optim.rates.per_replica",
            "fathomlab.optim.rates.WeightDecay",
            "fathomlab.base.packing.Varies",
        ),
    ),
}


def page() -> str:
    """The page as Markdown.

    Raises:
        ValueError: If a public name is in no group.
    """
    listed = [name for _, names in GROUPS.values() for name in names]
    if missing := set(dir(fathomlab)) - {*listed, "__version__"}:
        raise ValueError(f"public names without a group: {', '.join(sorted(missing))}")
    lines = [INTRODUCTION]
    groups = {title: (text, [f"fathomlab.{name}" for name in names]) for title, (text, names) in GROUPS.items()}
    for title, (text, names) in {**groups, **RELATED}.items():
        lines += [f"## {title}", "", text, ""]
        for name in names:
            lines += [f"::: {name}", ""]
    lines += [
        "## Next steps",
        "",
        "- [Python and notebooks](../guides/python.md)",
        "- [Tables](tables.md): the columns of `results.table()` and of exports.",
    ]
    return "\n".join(lines) + "\n"
