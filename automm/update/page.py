"""The drift report as one HTML file that needs nothing else."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any

from automm.errors import StorageError
from automm.update.watch import GROUPS, drifted

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
h1{font-size:1.4rem}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #dde2e8}
details{margin:.3rem 0}
summary{cursor:pointer}
.drift{color:#a3160f;font-weight:600}
.moderate{color:#8a5a00}
.stable,.unknown{color:#4a5563}
.bar{display:grid;grid-template-columns:minmax(8rem,16rem) 1fr 9rem;gap:.5rem;align-items:center;font-size:13px}
.bar span:first-child{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.bar b,.bar i{display:block;height:.55rem;margin-top:1px}
.key b,.key i{display:inline-block;width:1.2rem;height:.6rem}
b{background:#9aa7b5}
i{background:#2f6fb7}
"""


def write_page(path: Path, report: dict[str, Any]) -> None:
    """Writes the report, whole or not at all.

    Raises:
        StorageError: If the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(page(report), encoding="utf-8")
        partial.replace(path)
    except OSError as problem:
        raise StorageError(f"cannot write {path}: {problem.strerror}") from problem
    finally:
        partial.unlink(missing_ok=True)


def page(report: dict[str, Any]) -> str:
    """The report as HTML; every name from the data is escaped."""
    names = drifted(report)
    said = f"Drift in {len(names)}: {', '.join(names)}" if names else "No drift"
    title = f"Drift of {report['package']}"
    blocks = "\n".join(_block(found) for found in report["findings"])
    refused = f", {report['refused']:,} of them could not be read" if report["refused"] else ""
    against = f"{report['reference_rows']:,} training rows of the package {report['digest'][:12]}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p class="{"drift" if names else "stable"}">{escape(said)}.</p>
<table>
<tr><th>Rows</th><td>{report["rows"]:,} of {escape(report["table"])}{refused}</td></tr>
<tr><th>Compared with</th><td>{escape(against)}</td></tr>
<tr><th>Drift</th><td>a population stability index (PSI) of {report["threshold"]:g} or more, and not by chance</td></tr>
</table>
<p class="key"><b></b> training &nbsp; <i></i> these rows</p>
{blocks}
</body></html>
"""


def _block(found: dict[str, Any]) -> str:
    figure = "" if found["figure"] == "value" else f", {found['figure']}"
    name = f"{found['field']}{figure} ({GROUPS[found['group']]})"
    distance = "" if found["ks"] is None else f", KS {found['ks']:.3f}"
    words = f"{found['words']}; " if found["words"] else ""
    head = f"{words}PSI {found['psi']:.3f}{distance}, χ² {found['chi2']:.1f}, p {found['p']:.2g}"
    most = max(max(before, after) for _, before, after in found["bins"]) or 1.0
    bars = "".join(_bar(label, before, after, most) for label, before, after in found["bins"] if before or after)
    opened = " open" if found["status"] == "drift" else ""
    status = found["status"]
    return (
        f'<details{opened}><summary><span class="{status}">{status}</span> {escape(name)}: {escape(head)}</summary>'
        f"{bars}</details>"
    )


def _bar(label: str, before: float, after: float, most: float) -> str:
    widths = [f"{100 * share / most:.1f}%" for share in (before, after)]
    return (
        f'<div class="bar"><span title="{escape(label)}">{escape(label)}</span>'
        f'<span><b style="width:{widths[0]}"></b><i style="width:{widths[1]}"></i></span>'
        f"<span>{before:.1%} → {after:.1%}</span></div>"
    )
