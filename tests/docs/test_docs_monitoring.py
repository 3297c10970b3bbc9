"""The page on monitoring and updating, run on the quickstart's package."""

from __future__ import annotations

import json

from docs.conftest import run
from docs.pages import blocks, commands, names, rows, text


def page_commands(program: str) -> list[str]:
    """The page's commands of a program, without doubles."""
    found = [command for block in blocks("sh", "monitoring.md") for command in commands(block)]
    return [command for command in dict.fromkeys(found) if command.startswith(f"automm {program} ")]


def test_commands_of_the_page(quickstart):
    folder, _ = quickstart
    later, same = (run(command, folder) for command in page_commands("monitor"))
    assert later.returncode == 12, later.stderr
    assert "ink_left: mean" in later.stdout
    assert (folder / "drift.html").read_text("utf-8").startswith("<!doctype html>")
    assert same.returncode == 0, same.stdout
    assert json.loads(same.stdout)["threshold"] == 0.25
    (command,) = page_commands("update")
    done = run(command, folder)
    assert done.returncode == 0, done.stderr
    summary = json.loads((folder / "runs" / "quickstart-update" / "summary.json").read_text("utf-8"))
    documented = [name for cells in rows("monitoring.md", "## Updating") for name in names(cells[0])]
    assert set(documented) == set(summary)
    assert summary["rows"]["new_judged"] == 75
    # The reasons why a model went on or not are those of the page.
    assert set(summary["warm"].values()) <= {"continued", "fitted anew: it is no network"}
    assert (folder / "runs" / "quickstart-update" / "package" / "automm.json").is_file()


def test_thresholds_of_the_page():
    from automm.runtime.drift import DRIFTED, FEWEST, MODERATE, SURE
    from automm.update.challenger import NEW_CLASS
    from automm.update.kept import ROOM, SMALL
    from automm.update.rows import JUDGED, MOST_REPEATS
    from automm.update.run import MARGIN

    page = " ".join(text("monitoring.md").split())
    margin = f"{MARGIN:.0%}".replace("%", " %")
    for said in (
        f"PSI is {DRIFTED:g} or more",
        f"*moderately* from {MODERATE:g} on",
        f"fewer than {FEWEST} rows",
        f"a class needs {NEW_CLASS} rows",
        f"repeated up to {MOST_REPEATS} times",
        f"at most {margin}",
        f"{ROOM >> 20} MiB",
        f"up to {SMALL >> 20} MB",
    ):
        assert said in page, said
    assert (SURE, JUDGED) == (0.01, 0.25)
