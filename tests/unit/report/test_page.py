"""The page: self-contained, in order, and with reproducible bytes."""

import gc
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from jinja2 import TemplateNotFound

from fathomlab.analysis.audit import audit
from fathomlab.analysis.study import study
from fathomlab.analysis.verdicts import Decision, judge
from fathomlab.base.errors import UserError
from fathomlab.report.effects import effect_panels
from fathomlab.report.page import question, render, report_html, write_index, write_report
from fathomlab.store.reading import Store
from fathomlab.store.records import TrialRecord
from tests.helpers import stores
from tests.helpers.pages import elements, embedded, page, tables

EXPERIMENTS = ("1_1", "1_2", "1_3", "2_2")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_page_is_small_and_loads_nothing(written: Store, name: str):
    """No script but data, no address outside the page, a policy that forbids it anyway."""
    text = page(written, name)
    assert len(text.encode()) < 1_500_000
    parsed = elements(text)
    kinds = {tag for tag, _ in parsed.tags}
    assert [keys for tag, keys in parsed.tags if tag == "script"] == [{"type": "application/json", "id": "results"}]
    assert not kinds & {"link", "iframe", "object", "embed", "img", "form", "base"}
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": policy}) in parsed.tags
    for tag, attributes in parsed.tags:
        assert not [key for key in attributes if key.startswith("on") or key == "src"], (tag, attributes)
        address = attributes.get("href") or "#"
        assert re.match(r"#|data:(text/csv|image/png)", address), (tag, address)
    assert not re.search(r"https?:|url\((?!#)|@import", text)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_references_and_ids_agree(written: Store, name: str):
    """Each id once; each reference to an id that exists; each chart named for those who cannot see it."""
    parsed = elements(page(written, name))
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in parsed.tags:
        address = attributes.get("href") or ""
        assert not address.startswith("#") or address[1:] in ids, address
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)
        match = re.search(r"url\(#([^)]+)\)", " ".join(value or "" for value in attributes.values()))
        assert match is None or match[1] in ids
        if tag == "svg" and "aria-hidden" not in attributes:
            assert attributes["role"] == "img"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_headings_are_in_order_and_landmarks_exist(written: Store, name: str):
    """One h1, no level skipped; header, nav, main, footer once each."""
    parsed = elements(page(written, name))
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for landmark in ("header", "nav", "main", "footer"):
        assert sum(tag == landmark for tag, _ in parsed.tags) == 1


@pytest.mark.parametrize("name", ["1_1", "2_2"])
def test_equal_records_give_equal_bytes(written: Store, name: str):
    """72 trials take less than 4 s of CPU time."""
    before, start = page(written, name), time.process_time()
    write_report(written, name)
    assert time.process_time() - start < 4
    assert page(written, name) == before


def test_page_is_equal_in_another_process_without_torch(written: Store, tmp_path: Path):
    """With another hash seed, no place for matplotlib's cache or configuration, and a configuration file that is not one."""
    code = (
        "import sys, pathlib\nfrom fathomlab.report.page import write_report\n"
        "from fathomlab.store.reading import Store\n"
        "write_report(Store(pathlib.Path(sys.argv[1])), '1_2')\nassert not {'torch', 'matplotlib.pyplot'} & sys.modules.keys()"
    )
    before = page(written, "1_2")
    bad = tmp_path / "matplotlibrc"
    bad.write_text("font.size: 40\nno such key: 1\n")
    nowhere = dict.fromkeys(("HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), "/proc/none")
    variables = os.environ | nowhere | {"PYTHONHASHSEED": "1", "MATPLOTLIBRC": str(bad)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(written.root)], check=False, capture_output=True, text=True, env=variables
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert page(written, "1_2") == before


def test_failures_and_modified_data_come_before_evidence(written: Store):
    """Which trials have no result and why; which data files are modified; the chart before them says what it excludes."""
    first, second = (page(written, name) for name in ("1_2", "1_3"))
    assert first.index("1 of 5 diverged") < first.index('<section id="failures"')
    assert first.index("loss is not finite at step 812") < first.index('<section id="claims"')
    assert second.index('id="data-notes"') < second.index('<section id="curves"')
    assert 'id="data-notes"' not in first
    assert "38\u00a0evaluations" in first


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_main_chart_is_next_to_the_verdicts(written: Store, name: str):
    """In the first section, in a wide and a narrow form, and nowhere else."""
    text = page(written, name)
    first = text.split('<section id="answer"')[1].split("</section>")[0]
    assert re.findall(r'<figure id="([^"]+)">', first)[0] == "accuracy-1"
    assert first.count('class="wide"') == first.count('class="narrow"') == 1
    assert text.count('id="accuracy-1"') == 1


def test_verdicts_come_first(written: Store):
    """Cards come before the effects, and show the verdicts that the page is given."""
    experiment = study(written, written.experiment("2_2"))
    panel = effect_panels(experiment)[0]
    for decision in get_args(Decision):
        verdicts = [replace(verdict, decision=decision) for verdict in judge(experiment)]
        text = report_html(experiment, verdicts, audit(experiment))
        assert [item["verdict"] for item in embedded(text)["verdicts"]] == [decision]
        shown = elements(text).text
        assert (
            shown.index(decision.capitalize()) < shown.index("Distillation gains a point") < shown.index(panel.question)
        )


class Counting(Store):
    """A store that counts how often it reads each trial."""

    def __init__(self, root: Path):
        super().__init__(root)
        self.reads = Counter[str]()

    def trial(self, trial: str) -> TrialRecord:
        self.reads[trial] += 1
        return super().trial(trial)


def test_pages_read_each_trial_once(written: Store, tmp_path: Path):
    """Verdicts, audits, and figures share one reading; the index shares it between experiments."""
    store = Counting(written.root)
    write_report(store, "2_2")
    assert (set(store.reads.values()), len(store.reads)) == ({1}, 25)
    stores.write_blocks(tmp_path)
    shutil.copytree(tmp_path / "experiments" / "1_3", tmp_path / "experiments" / "again")
    store = Counting(tmp_path)
    write_index(store)
    assert (set(store.reads.values()), len(store.reads)) == ({1}, 8)


TERMS = ("sign-flip", "holm", "mcnemar", "tost", "wilson", "newcombe", "alpha spending", "p =", "p-value")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_statistical_terms_appear_only_in_details(written: Store, name: str):
    """Nothing that a reader sees before opening a block needs a statistics course."""
    text = re.sub(r"<style>.*?</style>|<script.*?</script>", "", page(written, name), flags=re.DOTALL)
    while (inner := re.sub(r"<details[^>]*>(?:(?!<details).)*?</details>", "", text, flags=re.DOTALL)) != text:
        text = inner
    shown = elements(text).text.lower()
    assert [term for term in TERMS if term in shown] == []
    assert len(shown) > 1000


def test_badges_have_tooltips(written: Store):
    """One per verdict."""
    badges = [keys for tag, keys in elements(page(written, "1_2")).tags if keys.get("class") == "badge"]
    assert len(badges) == len(embedded(page(written, "1_2"))["verdicts"])
    assert all(badge["title"] for badge in badges)


def test_rendering_keeps_the_thresholds_of_the_garbage_collector():
    before = gc.get_threshold()
    gc.set_threshold(900, 8, 7)
    try:
        render("index.html", entries=[])
        assert gc.get_threshold() == (900, 8, 7)
        with pytest.raises(TemplateNotFound):
            render("missing.html")
        assert gc.get_threshold() == (900, 8, 7)
    finally:
        gc.set_threshold(*before)


def test_title_and_heading_name_the_run(tmp_path: Path):
    """Name, quick run, and date tell four pages apart; the question of the file is shown."""
    asked = {"question": "Is it deep?", "quick": True}
    stores.write_depths(tmp_path, depths=(5,), epochs=2, **asked)
    store = Store(tmp_path)
    text = write_report(store, "1_2").read_text()
    for tag in ("title", "h1"):
        match = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert match is not None
        assert [part in match[1] for part in ("1_2", "quick", "2026-11-22")] == [True] * 3
    assert re.search(r'<p class="lede">Is it deep\?', text)
    index = write_index(store).read_text()
    for part in ("Is it deep?", "Quick run", "2026-11-22", "<code>experiment.seeds=5</code>"):
        assert part in index


def test_page_of_failed_trials_only_has_no_figures(tmp_path: Path):
    """No figure, no empty section, no question mark in place of a number; every failure with its cause."""
    trials = [
        (seed, stores.write_trial(tmp_path, "x", {}, seed, 0.5, status="failed", cause=f"no memory {seed}", epochs=0))
        for seed in range(12)
    ]
    for _, trial in trials:
        (tmp_path / "trials" / trial / "metrics.jsonl").unlink()
    stores.write_experiment(tmp_path, "x", "Nothing worked", [stores.condition("", {}, None, trials)], seeds=[0])
    text = write_report(Store(tmp_path), "x").read_text()
    parsed = elements(text)
    entries = [keys["id"] for tag, keys in parsed.tags if tag == "section"]
    assert entries == ["answer", "failures", "cost", "methods", "provenance", "trials"]
    assert 'role="img"' not in text
    assert "no memory 0" in parsed.text
    assert tables(text)["trials"][11]["cause"] == "no memory 11"
    assert parsed.text.count("12\u00a0trials failed") == 2


@pytest.mark.parametrize("changes", [{"kind": "magic"}, {"levels": [True]}])
def test_unreadable_claims_leave_a_page_with_the_reason(tmp_path: Path, changes: dict[str, Any]):
    """A claim that this version does not know leaves a page with the reason and without verdicts."""
    claim = {"name": "a", "factor": "residual", "levels": [True, False], "expect": "greater"} | changes
    stores.write_depths(tmp_path, depths=(5,), epochs=2, claims=[claim])
    text = write_report(Store(tmp_path), "1_2").read_text()
    assert "claims" in elements(text.split('class="notice bad"')[1].split("</div>")[0]).text
    assert 'class="badge"' not in text
    assert 'id="results"' not in text
    assert write_index(Store(tmp_path)).is_file()


def test_claim_with_a_lone_surrogate_is_evaluated(tmp_path: Path):
    """The page shows a replacement character."""
    claim = {"name": "a\ud800b", "factor": "residual", "levels": [True, False], "expect": "greater"}
    stores.write_depths(tmp_path, depths=(5,), epochs=2, claims=[claim])
    text = write_report(Store(tmp_path), "1_2").read_text()
    assert 'class="notice bad"' not in text
    assert text.count('class="badge"') == 1
    assert "a?b" in elements(text).text


def test_interrupted_trials_are_pending(tmp_path: Path):
    """Neither failed nor finished, and named."""
    stores.write_blocks(tmp_path, seeds=1, epochs=3)
    store = Store(tmp_path)
    trial = store.experiment("1_3").conditions[0].trials[0].trial
    (tmp_path / "trials" / trial / "result.json").unlink()
    text = elements(write_report(store, "1_3").read_text()).text
    assert "1 pending (1 interrupted)" in text
    assert 'id="failures"' not in page(store, "1_3")


@pytest.mark.slow
def test_report_of_1000_trials_takes_10_seconds_of_cpu(tmp_path: Path):
    """The page stays below 3 MB."""
    stores.write_depths(tmp_path, seeds=125, epochs=5)
    start = time.process_time()
    path = write_report(Store(tmp_path), "1_2")
    assert time.process_time() - start < 10
    assert path.stat().st_size < 3_000_000


def test_index_links_every_report(written: Store):
    """Relative links to files that exist, in a page as strict as the others."""
    text = (written.root / "index.html").read_text()
    links = [keys["href"] or "" for tag, keys in elements(text).tags if tag == "a" and "#" not in (keys["href"] or "")]
    assert links == [f"experiments/{name}/report.html" for name in EXPERIMENTS]
    assert all((written.root / link).is_file() for link in links)
    assert "<script" not in text


def test_corrupted_and_empty_records_still_give_pages(tmp_path: Path):
    """A trial without its files, a trial that waits, an experiment that is no JSON, and one without conditions."""
    stores.write_blocks(tmp_path, seeds=2, epochs=3)
    store = Store(tmp_path)
    first, second = (pairs.trials[0].trial for pairs in store.experiment("1_3").conditions[:2])
    (tmp_path / "trials" / first / "trial.json").write_text("")
    for file in (tmp_path / "trials" / second).iterdir():
        file.unlink()
    (tmp_path / "trials" / second).rmdir()
    for name, text in (("broken", "{"), ("bare", "{}")):
        (tmp_path / "experiments" / name).mkdir()
        (tmp_path / "experiments" / name / "experiment.json").write_text(text)
    for name in ("1_3", "broken", "bare"):
        write_report(store, name)
    text = elements(page(store, "1_3")).text
    assert "trial.json is empty" in text
    assert "1 pending" in text
    assert "experiment.json is not valid JSON" in elements(page(store, "broken")).text
    assert "experiment.json is not valid JSON" in elements(write_index(store).read_text()).text


def test_unknown_experiment_raises_with_a_suggestion(written: Store):
    with pytest.raises(UserError, match="Did you mean '1_2'"):
        write_report(written, "1-2")


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("# What?\nseed: 1\n", "What?"),
        ("\n# Cost: little\n# Question: Why?\nseed: 1\n# Question: no\n", "Why?"),
        ("# Question: is it\n#           this?\n# Cost: much\n", "Is it this?"),
        ("# yaml-language-server: $schema=experiment.schema.json\n# What?\nseed: 1\n", "What?"),
        ("seed: 1\n# late\n", ""),
        ("", ""),
    ],
)
def test_question_is_in_the_leading_comment(yaml: str, expected: str):
    """A line `Question:` wins over the first line."""
    assert question(yaml) == expected
