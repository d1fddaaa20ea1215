"""Versions, workflows, the container, and the citation agree with the project."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import fathomlab
from tests.release.environments import interpreters, supported_versions

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github").rglob("*.yml"))


def load(path: Path) -> dict[str, Any]:
    """A YAML file."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def test_version_is_the_same_everywhere():
    changelog = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert changelog is not None
    assert {load(ROOT / "CITATION.cff")["version"], changelog[1]} == {fathomlab.__version__}
    assert 'version = { attr = "fathomlab.__version__" }' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_citation_has_what_a_citation_needs():
    """The required keys of CFF 1.2.0, and a license that is the package's."""
    citation = load(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert f'license = "{citation["license"]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_workflows_test_the_supported_versions():
    """Each matrix of a workflow lists the Python versions of the classifiers."""
    matrices = {
        f"{path.stem} {name}": job["strategy"]["matrix"]["python"]
        for path in WORKFLOWS
        for name, job in load(path)["jobs"].items()
        if "strategy" in job
    }
    assert matrices == {"release test": supported_versions(), "test test": supported_versions()}
    assert supported_versions() == ["3.11", "3.12", "3.13", "3.14"]


def test_actions_are_pinned_and_no_secrets_are_used():
    for path in WORKFLOWS:
        text = path.read_text(encoding="utf-8")
        assert [use for use in re.findall(r"uses: (\S+)", text) if not re.search(r"@v\d", use)] == []
        assert "secrets." not in text


def test_only_publishing_may_ask_for_an_identity():
    """And it waits for all other jobs."""
    release = load(ROOT / ".github" / "workflows" / "release.yml")
    assert release["permissions"] == {"contents": "read"}
    jobs = release["jobs"]
    assert {name: job["permissions"] for name, job in jobs.items() if "permissions" in job} == {
        "publish": {"id-token": "write"}
    }
    assert jobs["publish"]["environment"] == "pypi"
    assert set(jobs["publish"]["needs"]) == jobs.keys() - {"publish"}


def test_container_builds_from_files_that_exist():
    """The context contains what the wheel is built from, and the final user is not root."""
    included = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name in included if not (ROOT / name).exists()] == []
    assert {"src", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE", "requirements.lock"} <= set(
        included
    )
    instructions = re.findall(r"^([A-Z]+) (.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    last = dict(instructions)
    assert last["USER"] == "1000"
    assert last["ENTRYPOINT"] == '["fathomlab"]'
    assert last["VOLUME"] == "/runs"
    assert "FATHOMLAB_RUNS=/runs" in last["ENV"]


def test_missing_interpreters_are_named(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        interpreters(["python3.999"])
    assert capsys.readouterr().out == "python3.999: not installed, skipped\n"
