"""`summary.json`: the stable, documented outcome of a run."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import automm
from automm.errors import ExitCode
from automm.replay import how_to_repeat
from automm.search.pareto import pareto, points

if TYPE_CHECKING:
    from automm.run import Member, Run


def summary_of(
    run: Run,
    winner: Mapping[str, Any],
    members: Sequence[Member],
    metrics: dict[str, Any],
    *,
    package: str,
    latency_ms: float,
    size_mb: float,
    gates: list[dict[str, Any]],
    verified_rows: int,
    deviations: dict[str, float],
    exports: dict[str, str],
    compression: dict[str, Any],
) -> dict[str, Any]:
    """The summary of a run that made a package; every key is documented in docs/run-folder.md."""
    met = all(gate["met"] for gate in gates)
    plan = run.plan
    return {
        "status": "ok" if met else "gate_missed",
        "exit_code": int(ExitCode.OK if met else ExitCode.GATE_MISSED),
        "recipe": plan.recipe,
        "task": plan.task,
        "metric": plan.metric,
        "valid": metrics["valid"],
        "test": metrics.get("test", {}),
        "trials": dict(Counter(report["state"] for report in run.reports)),
        "best": {
            "name": winner["name"],
            "value": winner["value"],
            "members": [member._asdict() for member in members],
        },
        "decision": winner["decision"],
        "imbalance": winner["imbalance"],
        "passed_over": winner.get("passed_over", {}),
        "ensemble_left": winner.get("left", {}),
        "pareto": pareto(points([*run.reports, *run.baselines]), plan.maximize),
        "constant": run.constant,
        "baselines": {report["name"]: report["value"] for report in run.baselines},
        "single": winner["single"],
        "wall_seconds": round(time.monotonic() - run.began, 3),
        "package": package,
        "exports": exports,
        "compression": compression,
        "latency_ms": round(latency_ms, 3),
        "size_mb": round(size_mb, 3),
        "gates": gates,
        "verified": {"rows": verified_rows, "deviations": deviations},
        "rows": plan.rows,
        "bad_rows": run.prepared.ledger.bad(),
        "warnings": list(plan.warnings),
        "seed": plan.seed,
        "plan": plan.digest,
        "processes": run.ranks.world,
        "versions": {"automm": automm.__version__, "python": platform.python_version()},
        "repeat": how_to_repeat(run, [member.name for member in members]),
    }
