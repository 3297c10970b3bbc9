"""Draws docs/plugins/calls.svg: which method of which component automm calls, and when.

python docs/plugins/diagram.py            # writes the picture
python docs/plugins/diagram.py --check    # says whether it is up to date
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

PICTURE = Path(__file__).parent / "calls.svg"

PHASES = {
    "loading": "every command",
    "plan": "check, plan, fit",
    "data": "once per run",
    "trial": "again and again",
    "package": "the winner, once",
    "predicting": "predict, serve",
}
"""Phase → when it happens."""

CALLS: dict[str, dict[str, list[str]]] = {
    "Modality": {"plan": ["claim", "claim_family"]},
    "Task": {
        "plan": ["claim", "metric_names", "unsuited"],
        "data": ["fit", "encode", "target"],
        "trial": ["head", "model_target", "answer", "metrics"],
        "package": ["decide", "average", "decoder"],
    },
    "Processor": {"data": ["fit", "specs", "load", "blank"], "predicting": ["load", "blank"]},
    "Encoder": {
        "plan": ["unsuited", "processor"],
        "data": ["extracts", "extract"],
        "trial": ["__init__", "forward", "layers", "fresh"],
    },
    "Fusion": {"plan": ["unsuited"], "trial": ["__init__", "forward", "weigh"]},
    "Loss": {"plan": ["unsuited"], "trial": ["__init__", "forward"]},
    "Objective": {"plan": ["unsuited"], "trial": ["__init__", "forward"]},
    "Learner": {"plan": ["unsuited"], "trial": ["__init__", "fit", "forward"], "package": ["fit"]},
    "Compressor": {"package": ["student", "shrink", "compress"]},
    "Exporter": {"package": ["export_graph", "export_package"]},
    "Decoder": {"predicting": ["columns", "drive", "decode"]},
    "hooks": {
        "loading": ["automm_register", "automm_commands"],
        "trial": ["automm_callbacks", "automm_trial_finished"],
        "package": ["automm_package_written"],
    },
}
"""Kind (or the hooks) → phase → what is called, in order; a compressor has one of the three."""

LEFT, WIDTH, LINE, PAD, HEAD = 118, 204, 19, 13, 74
TORCH = {"trial", "package"}
"""Phases with torch; in the others only `extract` needs it."""


def picture() -> str:
    """The picture."""
    columns = {phase: LEFT + at * WIDTH for at, phase in enumerate(PHASES)}
    width = LEFT + len(PHASES) * WIDTH + 12
    body: list[str] = []
    top = HEAD
    for at, (kind, phases) in enumerate(CALLS.items()):
        height = max(map(len, phases.values())) * LINE + 2 * PAD
        if at % 2 == 0:
            body.append(f'<rect class="lane" x="0" y="{top}" width="{width}" height="{height}"/>')
        body.append(f'<text class="kind" x="14" y="{top + height / 2 + 5:g}">{kind}</text>')
        for phase, methods in phases.items():
            tall = len(methods) * LINE + 10
            x, y = columns[phase] + 6, top + (height - tall) / 2
            box = "box hook" if kind == "hooks" else "box"
            body.append(f'<rect class="{box}" x="{x}" y="{y:g}" width="{WIDTH - 18}" height="{tall}" rx="5"/>')
            body += [
                f'<text class="call" x="{x + 9}" y="{y + 5 + LINE * (row + 0.75):g}">{escape(method)}</text>'
                for row, method in enumerate(methods)
            ]
        top += height
    heads = []
    for phase, when in PHASES.items():
        x = columns[phase]
        color = "torch" if phase in TORCH else "light"
        points = f"{x},12 {x + WIDTH - 16},12 {x + WIDTH - 4},36 {x + WIDTH - 16},60 {x},60 {x + 12},36"
        heads.append(f'<polygon class="{color}" points="{points}"/>')
        heads.append(f'<text class="phase" x="{x + 22}" y="33">{phase}</text>')
        heads.append(f'<text class="when" x="{x + 22}" y="50">{when}</text>')
    legend = top + 24
    body += [
        f'<rect class="light" x="14" y="{legend - 12}" width="14" height="14" rx="3"/>',
        f'<text class="when dark" x="34" y="{legend}">runs without torch, but for extract</text>',
        f'<rect class="torch" x="270" y="{legend - 12}" width="14" height="14" rx="3"/>',
        f'<text class="when dark" x="290" y="{legend}">needs torch</text>',
    ]
    height = legend + 16
    return "\n".join([START.format(width=width, height=height), *heads, *body, "</svg>"]) + "\n"


START = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title">
<title id="title">Which method of which component automm calls, from loading a plugin to predicting</title>
<style>
text {{ font-family: system-ui, "Helvetica Neue", Arial, sans-serif; fill: #1d2733 }}
.back {{ fill: #ffffff }} .lane {{ fill: #f2f5f8 }}
.kind {{ font-size: 15px; font-weight: 600 }}
.phase {{ font-size: 15px; font-weight: 600; fill: #ffffff }} .when {{ font-size: 12px; fill: #ffffff }}
.dark {{ fill: #1d2733 }}
.light {{ fill: #2f6f8f }} .torch {{ fill: #b4532a }}
.box {{ fill: #ffffff; stroke: #8fa3b5 }} .hook {{ stroke-dasharray: 4 3 }}
.call {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, monospace; font-size: 12.5px }}
</style>
<rect class="back" width="{width}" height="{height}" rx="8"/>"""


def main() -> int:
    """Writes or checks the picture."""
    text = picture()
    if "--check" in sys.argv:
        fresh = PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == text
        print("up to date" if fresh else f"{PICTURE} is outdated: run python docs/plugins/diagram.py")
        return 0 if fresh else 1
    PICTURE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
