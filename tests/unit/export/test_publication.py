"""Published pages: their tables give the same study, their numbers are right, and they are rebuilt with the same bytes."""

import csv
import json
import re
import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from fathomlab.analysis.audit import audit
from fathomlab.analysis.published import comparisons
from fathomlab.analysis.study import study
from fathomlab.analysis.verdicts import judge
from fathomlab.api import publish_experiment, rebuild_page
from fathomlab.base.errors import ConfigError, UserError
from fathomlab.export.publication.stored import read_publication
from fathomlab.report.slopes import condition_slopes
from fathomlab.store.reading import Store
from tests.helpers import stores
from tests.helpers.hostile_text import ALL
from tests.helpers.published_numbers import wrong_numbers
from tests.helpers.recomputed import page_tables, t_interval
from tests.unit.export.test_hostile_text import hostile_store

ROOT = Path(__file__).parents[3]
EXPERIMENTS = ("1_1", "1_2", "1_3", "2_2")
RESULTS = ROOT / "docs" / "results"
COMMITTED = sorted(path.parent for path in RESULTS.glob("*/trials.csv"))
DRAWN_WITH = re.search(r"^matplotlib==(.+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
CHECKS = """\
thresholds: [0.9]
published:
  - {statement: Plain networks of 5 layers reach 96.2%., source: A paper, value: 0.962, factor: residual, levels: [false],
     at: {hidden_layers_num: 5}}
stated:
  - {statement: Errors are independent., ours: 0.31 instead of 0.29 points, command: python -m spread, agrees: agrees}
"""


@pytest.fixture(scope="module")
def published(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the pages of four experiments; do not change it."""
    target = tmp_path_factory.mktemp("results")
    for name in EXPERIMENTS:
        publish_experiment(name, target, root)
    return target


@pytest.fixture
def pages(published: Path, tmp_path: Path) -> Path:
    """A copy of the pages."""
    return Path(shutil.copytree(published, tmp_path / "pages"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def conditions_of(folder: Path, name: str) -> dict[str, dict[str, str]]:
    (rows,) = page_tables((folder / f"{name}.md").read_text(encoding="utf-8"))["Accuracy"]
    return {row["condition"]: row for row in rows}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_tables_give_the_same_study(root: Path, published: Path, name: str):
    """Verdicts, audits, published statements, slopes, and statuses are those of the store."""
    store = Store(root)
    before, item = study(store, store.experiment(name)), read_publication(published / name)
    after = item.study
    decided = [
        [(verdict.decision, verdict.effect, verdict.tests, verdict.success) for verdict in judge(read)]
        for read in (before, after)
    ]
    assert decided[0] == decided[1]
    assert audit(before) == audit(after)
    pairs = zip(comparisons(before, judge(before)), comparisons(after, judge(after)), strict=True)
    assert all((a.agreement, a.result) == (b.agreement, b.result) for a, b in pairs)
    slopes = condition_slopes(after, lambda trial: item.slopes[trial.trial])
    assert [(each.start, each.last, each.agreement) for each in slopes] == [
        (each.start, each.last, each.agreement) for each in condition_slopes(before)
    ]
    kept = [
        [
            (condition.name, seed, trial.trial, trial.status, trial.cause, trial.content)
            for condition, seed, trial in trials
        ]
        for trials in (before.trials, after.trials)
    ]
    assert kept[0] == kept[1]
    assert before.looks == after.looks


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_numbers_follow_from_the_tables(published: Path, name: str):
    assert wrong_numbers(published / f"{name}.md") == []


def test_numbers_of_committed_pages_follow_from_the_tables():
    wrong = {folder.name: wrong_numbers(folder.with_name(f"{folder.name}.md")) for folder in COMMITTED}
    assert {name: cells for name, cells in wrong.items() if cells} == {}


@pytest.mark.parametrize("column", ["test/accuracy", "train/loss", "slope/start", "status"])
def test_changed_table_is_noticed(pages: Path, column: str):
    """Another number of one trial, and one that is left out, contradict the page."""
    path = pages / "1_2" / "trials.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    rows[0][column] = "failed" if column == "status" else str(float(rows[0][column]) - 0.01)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert wrong_numbers(pages / "1_2.md") != []


def test_rebuilt_page_has_the_same_bytes(published: Path, tmp_path: Path):
    """Only from the tables, in another directory."""
    for name in EXPERIMENTS:
        tables = tmp_path / name
        shutil.copytree(published / name, tables, ignore=shutil.ignore_patterns("*.svg"))
        written = rebuild_page(tables)
        assert written[0] == tmp_path / f"{name}.md"
    assert files(tmp_path) == files(published)


def test_rebuilt_committed_pages_have_the_same_text(tmp_path: Path):
    """Charts are compared if they are drawn with the locked version. Git may change the ends of lines."""
    rebuilt = [path for folder in COMMITTED for path in rebuild_page(shutil.copytree(folder, tmp_path / folder.name))]
    if DRAWN_WITH is None or DRAWN_WITH[1] != matplotlib.__version__:
        rebuilt = [path for path in rebuilt if path.suffix != ".svg"]
    committed = [RESULTS / path.relative_to(tmp_path) for path in rebuilt]
    texts = [[path.read_text(encoding="utf-8") for path in pair] for pair in zip(rebuilt, committed, strict=True)]
    assert [path.name for path, (new, old) in zip(rebuilt, texts, strict=True) if new != old] == []


def test_exclusions_and_pending_trials_are_shown(pages: Path, root: Path):
    rows = conditions_of(pages, "1_2")
    assert (rows["residual, depth 40"]["trials"], rows["residual, depth 40"]["excluded"]) == (
        "4 of 5",
        "1 of 5 diverged",
    )
    assert rows["plain, depth 20"]["excluded"] == "1 of 5 failed"
    assert rows["residual, depth 40"]["seeds above 90%"].startswith("4 of 5 ")  # a diverged seed is a failure
    runs = Path(shutil.copytree(root, pages / "runs"))
    trial = read_publication(pages / "1_1").study.trials[0][2].trial
    shutil.rmtree(runs / "trials" / trial)
    publish_experiment("1_1", pages, runs)
    text = (pages / "1_1.md").read_text(encoding="utf-8")
    assert next(iter(conditions_of(pages, "1_1").values()))["excluded"] == "1 of 8 pending"
    assert "1 of 72 trials not finished" in text
    assert wrong_numbers(pages / "1_1.md") == []


def test_checks_and_discussion_are_shown(pages: Path, root: Path):
    """And no command overwrites them."""
    discussion = "The *depth* | 40 is special.\n\n### Limits\n\nFive seeds.\n"
    (pages / "1_2" / "discussion.md").write_text(discussion)
    (pages / "1_2" / "checks.yaml").write_text(CHECKS)
    publish_experiment("1_2", pages, root)
    text = (pages / "1_2.md").read_text(encoding="utf-8")
    assert f"## Discussion\n\n{discussion}" in text
    assert (pages / "1_2" / "discussion.md").read_text() == discussion
    assert (pages / "1_2" / "checks.yaml").read_text() == CHECKS
    (rows,) = page_tables(text)["Published or predicted, and ours"]
    paper, stated = rows[:2]
    assert paper["published or predicted"].endswith("(A paper; added after the results)")
    assert paper["agrees"] == "agrees"
    assert stated["ours"] == "0.31 instead of 0.29 points"
    assert (stated["agrees"], stated["repeat"]) == ("agrees", "`python -m spread`")
    assert "seeds above 90%" in conditions_of(pages, "1_2")["plain, depth 5"]  # declared by a claim, too
    assert wrong_numbers(pages / "1_2.md") == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("thresholds: [90]", "out-of-range"),
        ("published: [{statement: a, value: 96, factor: residual, levels: [true]}]", "out-of-range"),
        ("notes: []", "unknown-key"),
    ],
)
def test_invalid_checks_are_rejected(pages: Path, text: str, code: str):
    (pages / "1_2" / "checks.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        rebuild_page(pages / "1_2")
    assert [problem.code for problem in caught.value.problems] == [code]


def test_name_of_another_experiment_is_rejected(pages: Path, root: Path):
    before = files(pages)
    for name, code in {"1_2": "target-exists", "../x": "invalid-option", "a b": "invalid-option"}.items():
        with pytest.raises(UserError) as caught:
            publish_experiment("1_1", pages, root, name)
        assert caught.value.code == code
    assert files(pages) == before
    page, *_ = publish_experiment("1_1", pages, root, "wide-1_1")
    assert page == pages / "wide-1_1.md"
    assert "](wide-1_1/trials.csv)" in page.read_text(encoding="utf-8")


def test_damaged_tables_are_reported(pages: Path):
    """Missing files, rows that do not fit, and another format."""
    table, document = pages / "1_2" / "trials.csv", pages / "1_2" / "experiment.json"
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    record = json.loads(document.read_text(encoding="utf-8"))
    changes = {
        table: {
            "".join([*lines, lines[-1]]): "damaged-record",  # a trial without options
            "".join([lines[0], lines[1].replace("residual=false", "residual=maybe", 1)]): "damaged-record",
            lines[0].replace("status", "state") + lines[1]: "damaged-record",
        },
        document: {
            json.dumps({**record, "format": 2}): "outdated-record",
            json.dumps({**record, "options": 3}): "damaged-record",
            "[]": "damaged-record",
            "{": "damaged-record",
        },
    }
    for path, texts in changes.items():
        content = path.read_bytes()
        for text, code in texts.items():
            path.write_text(text, encoding="utf-8")
            with pytest.raises(UserError) as caught:
                rebuild_page(pages / "1_2")
            assert caught.value.code == code, text[:80]
        path.unlink()
        with pytest.raises(UserError) as caught:
            rebuild_page(pages / "1_2")
        assert caught.value.code == "no-such-file"
        path.write_bytes(content)


def test_losses_that_are_not_finite_stay_so(tmp_path: Path):
    """A finished trial whose loss is null counts as diverged in claims about losses, in the tables as well."""
    factors = {"model.params.residual": True}
    trials = [(seed, stores.write_trial(tmp_path, "x", factors, seed, 0.9)) for seed in (1, 2)]
    path = tmp_path / "trials" / trials[0][1] / "result.json"
    stores.change(path, metrics={**json.loads(path.read_text())["metrics"], "train/loss": None})
    claim = {"name": "Low loss", "factor": "residual", "levels": [True], "reference": 0.5, "metric": "train/loss"}
    options = {"claims": [claim | {"expect": "less"}], "seeds": [1, 2]}
    stores.write_experiment(tmp_path, "x", "x", [stores.condition("residual=true", factors, None, trials)], **options)
    publish_experiment("x", tmp_path / "pages", tmp_path)
    (verdict,) = judge(read_publication(tmp_path / "pages" / "x").study)
    assert [arm.diverged for arm in verdict.contrast.arms] == [(1,)]
    assert wrong_numbers(tmp_path / "pages" / "x.md") == []


def test_tables_are_small(published: Path):
    """500 trials have less than 300 kB, with 60 kB for charts and what does not grow."""
    for name in EXPERIMENTS:
        rows = len((published / name / "trials.csv").read_bytes().splitlines()) - 1
        document = json.loads((published / name / "experiment.json").read_text(encoding="utf-8"))
        columns = [*document["options"].values(), *document["facts"].values()]
        grown = (published / name / "trials.csv").stat().st_size
        grown += sum(len(json.dumps(column["rows"], separators=(",", ":"))) for column in columns)
        assert grown / rows < 480


def test_hostile_texts_stay_texts(tmp_path: Path):
    """Texts with markup, line ends, and half characters end no cell, and nothing is written elsewhere."""
    hostile_store(tmp_path / "runs")
    before = files(tmp_path)
    publish_experiment("x", tmp_path / "pages", tmp_path / "runs", "x")
    after = files(tmp_path)
    assert {name for name in after.keys() - before.keys() if not name.startswith(("pages/x.md", "pages/x/"))} == set()
    text = (tmp_path / "pages" / "x.md").read_text(encoding="utf-8")
    assert len(page_tables(text)["Accuracy"][0]) == len(ALL)
    assert not re.search(r"<(?!!-- Written)", re.sub(r"``?[^`]*``?", "", text))
    assert rebuild_page(tmp_path / "pages" / "x")[0].read_bytes() == text.encode()


def test_exponents_of_the_committed_page_follow_from_its_table():
    """Independent of the package: for each seed the rate with the best validation accuracy, and the slope of its logarithm."""
    folder = RESULTS / "depth_transfer"
    with open(folder / "trials.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    shown = page_tables(Path(f"{folder}.md").read_text(encoding="utf-8"))["Tuned on validation"][1]
    assert len(shown) == 3
    for line in shown:
        scale = line["series"].removeprefix("branch scale ")
        slopes = []
        for seed in sorted({row["seed"] for row in rows}):
            best: dict[int, tuple[float, float]] = {}  # depth to accuracy and negative rate
            for row in rows:
                if (row["seed"], row["model.params.branch_scale"], row["status"]) == (seed, scale, "finished"):
                    depth, rate = int(row["model.params.hidden_layers_num"]), float(row["training.lr"])
                    reached = (float(row["val/accuracy"]), -rate)  # of equal rates, the smallest
                    best[depth] = max(best.get(depth, (0.0, 0.0)), reached)
            depths = sorted(best)
            slopes.append(np.polyfit(np.log(depths), [np.log(-best[depth][1]) for depth in depths], 1)[0])
        expected = t_interval(slopes)
        assert [float(line[name]) for name in ("exponent", "low", "high")] == pytest.approx(expected, abs=0.006)
