"""Documents from the schema's grammar, accidents to the laboratory's files, overrides: planned, or refused in words.

FATHOMLAB_FUZZ_CASES sets the number of cases, FATHOMLAB_FUZZ_SEED the seed, FATHOMLAB_FUZZ_ONLY runs one case of it.
"""

import importlib.util
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fathomlab

FILES = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
MOST_SECONDS = 1.0
MANY_TRIALS = 2_000  # planning is linear in the trials: what is right and larger may take its time


def _grammar() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hostile_grammar", Path(__file__).with_name("grammar.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


grammar = _grammar()


def source_of(case: int, chance: random.Random, path: Path) -> tuple[Any, list[str], bool]:
    """What a case loads: a mapping, a file, a damaged file of the laboratory, or overrides on one of them."""
    kind = case % 10
    wild = chance.choice([0.0, 0.02, 0.1])
    quick = chance.random() < 0.2
    if kind < 4:
        return grammar.Grammar(chance, wild, python=True).document(), [], quick
    if kind < 7:
        text = grammar.as_text(grammar.Grammar(chance, wild, python=False).document())
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        return path, [], quick
    if kind < 9:
        path.write_bytes(grammar.mutated(chance.choice(FILES).read_bytes(), chance))
        return path, [], quick
    drawn = grammar.Grammar(chance, max(wild, 0.02), python=False)
    pairs = [drawn.chance.choice(grammar.PATHS) for _ in range(chance.choice([1, 2, 5]))]
    overrides = [f"{key}={grammar.emitted(drawn.value(hint))}" for key, hint in pairs]
    if chance.random() < 0.2:
        overrides.append(
            grammar.mutated(overrides[0].encode("utf-8", "replace"), chance).decode("utf-8", "surrogateescape")
        )
    return chance.choice(FILES), overrides, quick


def judged(source: Any, overrides: list[str], quick: bool) -> str:
    """What became of it: `plan`, or `refused`; anything else is an error of ours."""
    try:
        plan = fathomlab.load(source, overrides, quick)
    except fathomlab.ConfigError as error:
        assert all(problem.message.strip() for problem in error.problems)  # noqa: PT017
        assert "\x1b" not in str(error)  # noqa: PT017
        return "refused"
    except fathomlab.UserError as error:
        assert error.code == "no-quick-section", error  # noqa: PT017
        return "refused"
    assert all(len(trial.hash) == 64 for trial in plan.trials[:5])
    return "plan" if len(plan.trials) <= MANY_TRIALS else "large plan"


def fuzz(cases: int, chance: random.Random, path: Path) -> Counter[str]:
    """Judge so many cases; a failure says how to replay it."""
    fates: Counter[str] = Counter()
    seed = chance.seed_of_test  # type: ignore[attr-defined]
    only = os.environ.get("FATHOMLAB_FUZZ_ONLY")
    for case in [int(only)] if only else range(cases):
        source, overrides, quick = source_of(case, random.Random(f"{seed}:{case}"), path)
        started = time.process_time()
        try:
            fate = judged(source, overrides, quick)
            taken = time.process_time() - started
            assert taken < MOST_SECONDS or fate == "large plan", f"took {taken:.2f} s"
        except Exception as error:
            sys.set_int_max_str_digits(0)  # so that the message can show the case
            shown = source.read_bytes() if isinstance(source, Path) else source
            again = f"FATHOMLAB_FUZZ_SEED={seed} FATHOMLAB_FUZZ_ONLY={case}"
            pytest.fail(
                f"{again}: {type(error).__name__}: {str(error)[:400]}\n{ascii(shown)[:3000]}\n{ascii(overrides)[:2000]}"
            )
        fates[fate] += 1
    return fates


def test_only_our_error_leaves_the_loader(tmp_path: Path, chance: random.Random):
    """2,000 cases; enough of them are right, so that the plan is reached, and enough are wrong."""
    cases = int(os.environ.get("FATHOMLAB_FUZZ_CASES") or 2_000)
    fates = fuzz(cases, chance, tmp_path / "exp.yaml")
    if cases >= 2_000 and not os.environ.get("FATHOMLAB_FUZZ_ONLY"):
        assert fates["plan"] > cases / 10, fates
        assert fates["refused"] > cases / 10, fates


@pytest.mark.slow
def test_only_our_error_leaves_the_loader_at_length(tmp_path: Path, chance: random.Random):
    """100,000 cases from a fresh seed."""
    fuzz(int(os.environ.get("FATHOMLAB_FUZZ_CASES") or 100_000), chance, tmp_path / "exp.yaml")


def test_the_grammar_knows_every_option():
    """What is added to the schema or to a table of parts is drawn without a line here."""
    keys = {path for path, _ in grammar.PATHS}
    expected = {"data.batch_size", "training.lr", "model.params.layers_dim", "model.params.stem", "distillation.alpha"}
    expected |= {"training.optimizer_params.betas", "training.scheduler_params.gamma", "data.params.difficulty"}
    assert keys > expected | {"experiment.seeds", "claims.expect", "student_model.params.residual"}
