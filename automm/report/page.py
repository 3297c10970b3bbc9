"""`report.html`: the outcome of a run as one file that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from automm.report.folder import storage_errors
from automm.report.scatter import scatter
from automm.trial import described

DIGITS = 4
"""Of metrics."""
COLUMNS = ("ms a row", "MB", "seconds")
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
h1{font-size:1.4rem}
h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #dde2e8;vertical-align:top}
th{white-space:nowrap}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}
tr.winner td{font-weight:600}
.missed{color:#a3160f;font-weight:600}
.note{color:#4a5563}
svg{max-width:44rem;width:100%;font:12px system-ui,sans-serif;fill:#4a5563}
.grid{stroke:#e6eaef}
polyline{fill:none;stroke:#2f6fb7;stroke-width:1.5}
.front{fill:#2f6fb7}
.behind{fill:#9aa7b5;fill-opacity:.7}
.name{fill:#1c2430}
"""


def write_page(path: Path, summary: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> None:
    """Writes the report, whole or not at all.

    Raises:
        StorageError: If the file cannot be written.
    """
    with storage_errors(path):
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_text(page(summary, reports), encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def page(summary: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> str:
    """The report as HTML; every name from recipe and data is escaped.

    Args:
        summary: What `summary.json` holds.
        reports: The reports of trials and baselines.
    """
    from automm.search.pareto import points

    metric, found = summary["metric"], points(reports)
    blocks = [_facts(summary)]
    if found:
        blocks += [
            f"<h2>{escape(metric)} and time</h2>",
            '<p class="note">Every model that was trained, on the validation rows; the line joins those that no other '
            "one beats in both.</p>",
            scatter(found, summary["pareto"], metric),
        ]
    blocks += ["<h2>Models</h2>", _models(summary, reports)]
    title = f"{summary['recipe']}: {summary['task']}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
{"".join(blocks)}
</body></html>
"""


def _facts(summary: Mapping[str, Any]) -> str:
    members = summary["best"]["members"]
    names = ", ".join(f"{one['name']} ({one['weight']:.0%})" if len(members) > 1 else one["name"] for one in members)
    rows = [("Winner", ("ensemble of " if len(members) > 1 else "") + names)]
    for part in ("test", "valid"):
        if summary[part]:
            figures = ", ".join(f"{name} {_number(value, DIGITS)}" for name, value in summary[part].items())
            rows.append((f"{summary['rows'][part]:,} {part} rows", figures))
    if told := lead(summary):
        rows.append(("Gain", told))
    rows.append(("Package", f"{summary['latency_ms']:.2f} ms a row, {summary['size_mb']:.1f} MB"))
    if left := summary["ensemble_left"]:
        rows.append(("No ensemble", left["reason"]))
    if over := summary["passed_over"]:
        rows.append(
            ("Costs too much", f"{over['name']}: {_number(over['value'], DIGITS)}, {over['latency_ms']:.2f} ms a row")
        )
    table = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    gates = "".join(_gate(gate) for gate in summary["gates"])
    return f"<table>{table}{gates}</table>"


def lead(summary: Mapping[str, Any]) -> str:
    """By how much the winner beats the best model of one modality; empty if there is no other one."""
    found = summary["single"].get("difference") or {}
    if found.get("gain") is None or found["low"] is None:
        return ""
    interval = f"95 % interval {found['low']:+.{DIGITS}f} to {found['high']:+.{DIGITS}f}"
    clear = "" if found["low"] > 0 else "; it may be chance"
    return (
        f"{found['gain']:+.{DIGITS}f} {summary['metric']} over {summary['single']['name']} ({interval}, "
        f"{found['rows']:,} {found['part']} rows{clear})"
    )


def _gate(gate: Mapping[str, Any]) -> str:
    said = f"{gate['metric']} {gate['operator']} {gate['bound']:g}"
    value = "not defined" if gate["value"] is None else f"{gate['value']:.4g}"
    state, kind = ("met", "met") if gate["met"] else ("missed", "missed")
    return f'<tr><th>Gate</th><td>{escape(said)}: <span class="{kind}">{state}</span>, it is {value}</td></tr>'


def _models(summary: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> str:
    """All models, the complete ones first."""
    won = {member["name"] for member in summary["best"]["members"]}
    figures = "".join(f'<th class="number">{escape(name)}</th>' for name in (summary["metric"], *COLUMNS))
    lines = [f"<tr><th>model</th>{figures}<th>components</th></tr>"]
    for report in sorted(reports, key=lambda report: report["state"] != "complete"):
        complete = report["state"] == "complete"
        cells = "".join(
            f'<td class="number">{_number(value, places)}</td>'
            for value, places in (
                (report["value"], DIGITS), (report.get("latency_ms"), 2), (report.get("size_mb"), 3),
                (report["seconds"], 1),
            )
        )  # fmt: skip
        what = described(report["resolved"]) if complete else f"{report['state']}: {report['error'] or report['ended']}"
        kind = ' class="winner"' if report["name"] in won else ""
        lines.append(f"<tr{kind}><td>{escape(report['name'])}</td>{cells}<td>{escape(what)}</td></tr>")
    return f"<table>{''.join(lines)}</table>"


def _number(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"
