"""`automm fit`."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from pathlib import Path

import click

from automm.errors import ExitCode, MissingExtraError


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; default: runs/<recipe name>.")
@click.option("--nproc", type=click.IntRange(1), help="Processes on this machine (wraps torchrun).")
@click.option("--trial", metavar="N", help="Train trial N of a finished run again; compare with its metric.")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="Show nothing while it works.")
@click.option("--block", multiple=True, metavar="NAME", help="Leave a plugin out.")
@click.option("--plugin", "files", multiple=True, type=click.Path(path_type=Path), help="Load a local plugin file.")
@click.option("--strict", is_flag=True, help="A broken plugin is an error even if the recipe does not need it.")
def command(
    recipe: Path,
    out: Path | None,
    nproc: int | None,
    trial: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    block: tuple[str, ...],
    files: tuple[Path, ...],
    strict: bool,
) -> int:
    """Fit RECIPE: train, choose the best, write a verified package to OUT/package and OUT/summary.json.

    Running the same command again goes on where it stopped.
    """
    if dry_run:
        from automm.cli.plan import show_plan

        show_plan(recipe, block, files, strict, probe=False)
        return ExitCode.OK
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("lightning") is None:
        raise MissingExtraError(
            "fit needs torch and lightning, which the base install leaves out: pip install 'automm[train]'"
        )
    from automm.launch.local import in_job, launch
    from automm.orchestrate import fit
    from automm.run import FitOptions

    if nproc and nproc > 1 and not in_job():
        return launch(_without_nproc(sys.argv[1:]), nproc)
    # What plugins and libraries print must not end up in the JSON.
    if trial is not None:
        from automm.replay import replay

        with contextlib.redirect_stdout(sys.stderr):
            found = replay(recipe, FitOptions(out, block, files, strict, quiet), trial)
        if int(os.environ.get("RANK", "0")) == 0:
            click.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else replayed(found))
        return ExitCode.OK
    with contextlib.redirect_stdout(sys.stderr):
        summary = fit(recipe, FitOptions(out, block, files, strict, quiet))
    if summary and as_json:
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    elif summary and not quiet:
        for line in outcome(summary):
            click.echo(line)
    return ExitCode.OK


def replayed(found: dict[str, object]) -> str:
    """The line that ends a replay."""
    if found["error"]:
        return f"trial {found['name']} failed: {found['error']}"
    same = "the same" if found["same"] else f"it was {found['original']!r}"
    return f"trial {found['name']}: valid {found['metric']} {found['value']!r}, {same}; {found['folder']}"


def outcome(summary: dict[str, object]) -> list[str]:
    """The lines that end a run: each modality alone, remedies, the winner, what it gains, what is faster, package."""
    metric = str(summary["metric"])
    valid, test, baselines = summary["valid"], summary["test"], summary["baselines"]
    assert isinstance(valid, dict)
    assert isinstance(test, dict)
    assert isinstance(baselines, dict)
    alone = {"constant": summary["constant"], **baselines}
    lines = [f"{name:<24} valid {metric} {_number(value)}" for name, value in alone.items() if value is not None]
    lines += remedy_lines(metric, summary["imbalance"])
    best = summary["best"]
    assert isinstance(best, dict)
    names = [str(member["name"]) for member in best["members"]]
    winner = f"ensemble of {len(names)}" if len(names) > 1 else _trial(names[0])
    lines.append(f"{'winner: ' + winner:<24} valid {metric} {_number(valid.get(metric))}")
    lines += _lead(metric, summary["single"])
    if test:
        lines.append(f"{'':<24} test  " + ", ".join(f"{k} {_number(v)}" for k, v in test.items()))
    lines += _front(metric, summary["pareto"])
    lines.append(f"package: {summary['package']} ({summary['size_mb']} MB, {summary['latency_ms']} ms per row)")
    return lines


def _lead(metric: str, single: object) -> list[str]:
    """By how much the winner beats the best model of one modality."""
    assert isinstance(single, dict)
    found = single.get("difference") or {}
    if found.get("gain") is None or found["low"] is None:
        return []
    interval = f"95 % interval {found['low']:+.4f} to {found['high']:+.4f}, {found['rows']:,} {found['part']} rows"
    return [f"{'  over ' + single['name']:<24} {metric} {found['gain']:+.4f} ({interval})"]


def _front(metric: str, pareto: object) -> list[str]:
    """The two ends of the front of metric and latency, if it has two."""
    assert isinstance(pareto, list)
    ends = {"fastest": pareto[0], "best alone": pareto[-1]} if len(pareto) > 1 else {}
    return [
        f"{name + ': ' + _trial(end['name']):<24} valid {metric} {_number(end['value'])}, "
        f"{end['latency_ms']:.2f} ms a row, {end['size_mb']:.1f} MB ({end['what']})"
        for name, end in ends.items()
    ]


def _trial(name: str) -> str:
    return f"trial {name}" if name.isdigit() else name


SHOWN = 3
"""As many of the rarest classes are shown per remedy; `summary.json` has all."""


def remedy_lines(metric: str, remedies: object) -> list[str]:
    """What each imbalance remedy did: the metric, and recall and precision of the rarest classes."""
    assert isinstance(remedies, dict)
    lines = []
    for remedy, found in remedies.items():
        lines.append(f"{'remedy ' + remedy:<24} valid {metric} {_number(found['value'])}")
        rarest = sorted(found["classes"].items(), key=lambda item: item[1]["rows"])[:SHOWN]
        for name, figures in rarest:
            shown = ", ".join(f"{key} {figures[key]:.3f}" for key in ("recall", "precision", "f1"))
            lines.append(f"  {name:<22} {shown} ({figures['rows']:,} rows)")
    return lines


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "–"


def _without_nproc(arguments: list[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--nproc":
            skip = True
        elif not argument.startswith("--nproc="):
            kept.append(argument)
    return kept
