"""The process of `automm.package.verify`: loads a package without torch and answers raw rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from automm.runtime import ops
from automm.runtime.package import open_package
from automm.runtime.rows import decode_rows
from automm.runtime.state import write_npz

BATCH = 64


def main(folder: str) -> None:
    """Reads `order.json` and `rows.json`, writes `answers.npz` and, at the very end, `report.json`."""
    job = Path(folder)
    order = json.loads((job / "order.json").read_text("utf-8"))
    for file in order["plugins"]:
        ops.add_file(Path(file))
    rows = decode_rows((job / "rows.json").read_bytes(), job, "rows.json")
    base = Path(order["folder"]) if order["folder"] is not None else None
    package = open_package(order["package"])
    pieces: list[dict[str, np.ndarray]] = []
    refused: dict[int, str] = {}
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        table = {column: [row.get(column) for row in part] for column in package.columns}
        answers, reasons = package.answers(table, len(part), base)
        refused.update({start + at: reason for at, reason in reasons.items()})
        if answers:
            pieces.append(answers)
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in (pieces[0] if pieces else ())}
    (job / "answers.npz").write_bytes(write_npz(joined))
    (job / "report.json").write_text(json.dumps(refused), "utf-8")
