"""Tables of the pages against the code: exit codes, run folder, summary, events, components, plugins, data."""

from __future__ import annotations

import json
import re
import runpy
import typing

import pytest

from automm.core.cells import NULLS
from automm.core.kinds import KINDS
from automm.data.sources import OPENERS
from automm.errors import ExitCode
from automm.plugin import hookspecs, loader
from docs.conftest import run
from docs.pages import ROOT, blocks, names, rows, text

SOURCES = [path.read_text("utf-8") for path in sorted((ROOT / "automm").rglob("*.py"))]


def table(page, heading):
    """First cell's name → the names in its second cell."""
    return {names(cells[0])[0]: cells[1] for cells in rows(page, heading)}


def keys(cell):
    """The keys that a cell of the events table names, without what stands in brackets."""
    return set(names(re.sub(r"\([^)]*\)", "", cell)))


def test_exit_codes():
    assert {(int(code), names(name)[0]) for code, name, _ in rows("ci.md", "## Exit codes")} == {
        (int(code), code.name) for code in ExitCode
    }


def test_summary_keys(quickstart):
    folder, _ = quickstart
    summary = json.loads((folder / "runs" / "quickstart" / "summary.json").read_text("utf-8"))
    documented = table("run-folder.md", "## summary.json")
    assert set(documented) == set(summary)
    assert set(names(documented["best"])) - {"only-<modality>"} == set(summary["best"])
    assert set(names(documented["verified"])) == set(summary["verified"])
    assert summary["rows"].keys() == {"train", "valid", "test"}


def test_gate_keys(quickstart):
    folder, _ = quickstart
    summary = json.loads((folder / "runs" / "quickstart" / "summary.json").read_text("utf-8"))
    assert set(names(table("run-folder.md", "## summary.json")["gates"])) == set(summary["gates"][0])


def test_failed_run_keys(quickstart):
    folder, _ = quickstart
    (folder / "failing.yaml").write_text("data: recipes/data/quickstart/train.csv\ntarget: digits\n", "utf-8")
    done = run("automm fit failing.yaml --quiet", folder)
    summary = json.loads((folder / "runs" / "failing" / "summary.json").read_text("utf-8"))
    assert done.returncode == summary["exit_code"] == ExitCode.DATA
    paragraph = re.search(r"^A run that ended with an error message(.*?)\n\n", text("run-folder.md"), re.S | re.M)[1]
    assert set(summary) == set(names(paragraph)) - {"failed", "interrupted"}


def test_events(quickstart):
    folder, _ = quickstart
    documented = {event: keys(cell) for event, cell in table("run-folder.md", "## events.jsonl").items()}
    log = (folder / "runs" / "quickstart" / "events.jsonl").read_text("utf-8").splitlines()
    for entry in map(json.loads, log):
        assert set(entry) - {"time", "elapsed", "event"} == documented[entry["event"]], entry["event"]
    emitted = {event for source in SOURCES for event in re.findall(r'\.event\(\s*"(\w+)"', source)}
    assert set(documented) == emitted


def test_files_of_the_run_folder(quickstart):
    folder, _ = quickstart
    documented = {name.rstrip("/") for cells in rows("run-folder.md", "# The run folder") for name in names(cells[0])}
    found = {path.name for path in (folder / "runs" / "quickstart").iterdir()}
    sometimes = {"bad_rows.csv", "bad_rows.jsonl", "export", "wandb", "mlflow.db", "replays", "study.journal.damaged"}
    assert found | sometimes == documented


def test_components_page_is_fresh():
    made = runpy.run_path(str(ROOT / "docs" / "components.py"))
    assert text("components.md") == made["page"](), "run python docs/components.py"


def test_data_page():
    assert {ending for cells in rows("data.md", "## Formats") for ending in names(cells[1])} == set(OPENERS)
    spellings = re.search(r"the spellings (.*?), in any", text("data.md"), re.S)[1]
    assert set(names(spellings)) == NULLS - {""}


def test_plugin_page_tables():
    assert set(table("plugins.md", "## For analysts")) == set(typing.get_args(loader.State))
    assert set(table("plugins.md", "## For authors: one class")) == {base.__name__ for base in KINDS.values()}
    hooks = {name for name in vars(hookspecs) if name.startswith("automm_")}
    assert {name.partition("(")[0] for name in table("plugins.md", "## Hooks")} == hooks


@pytest.mark.parametrize("hook", [names(cells[0])[0] for cells in rows("plugins.md", "## Hooks")])
def test_hook_arguments(hook):
    import inspect

    name, _, arguments = hook.rstrip(")").partition("(")
    assert list(inspect.signature(getattr(hookspecs, name)).parameters) == arguments.split(", ")


def test_every_page_of_code_is_tested():
    assert {block.page for block in blocks("python")} == {"plugins.md", "predict.md", "deploy.md", "serve.md"}
