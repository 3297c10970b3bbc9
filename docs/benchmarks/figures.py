"""Figures with their goals: printed as they come, and kept as a Markdown table and as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Figures:
    """What a benchmark found.

    Attributes:
        path: Where it goes, with `.json` and `.md`; written anew with every line, so a run that is stopped leaves
            what it found until then.
        lines: What was found.
    """

    path: Path
    lines: list[dict[str, Any]] = field(default_factory=list)

    def add(self, what: str, found: str, goal: str = "", met: bool | None = None, **numbers: Any) -> None:
        """Prints and keeps a line.

        Args:
            what: What was measured, and against which baseline.
            found: The figure in words.
            goal: What it should be.
            met: Whether it is.
            numbers: The figures as numbers.
        """
        self.lines.append({"what": what, "found": found, "goal": goal, "met": met, **numbers})
        verdict = "" if met is None else f" [goal: {goal}; {'reached' if met else 'NOT reached'}]"
        print(f"{what}: {found}{verdict}", flush=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.with_suffix(".json").write_text(json.dumps(self.lines, indent=2) + "\n", encoding="utf-8")
        self.path.with_suffix(".md").write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        """The lines as a table."""
        rows = [("figure", "found", "goal", "")]
        rows += [(x["what"], x["found"], x["goal"], {None: "", True: "reached", False: "not reached"}[x["met"]])
                 for x in self.lines]  # fmt: skip
        out = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([out[0], "|---|---|---|---|", *out[1:]]) + "\n"
