"""`automm plugins`: list what is installed, start a new plugin, check a component."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import click

from automm.errors import ExitCode, PluginError, UsageError
from automm.plugin.loader import Plugins, load_plugins


@click.group()
def command() -> None:
    """List the installed plugins, start a new one, check a component."""


@command.command("list")
@click.option("--kind", help="Only components of this kind.")
@click.option("--block", multiple=True, metavar="NAME", help="Leave a plugin out.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--strict", is_flag=True, help="A broken plugin is an error.")
def list_(kind: str | None, block: tuple[str, ...], as_json: bool, strict: bool) -> None:
    """List components with their owner, version and state; then the plugins that are not loaded."""
    plugins = load_plugins(block=block, strict=strict)
    rows = [
        (e.kind, e.name, e.owner.plugin, e.owner.distribution, e.owner.version, "loaded", _first_line(e.cls.__doc__))
        for e in plugins.registry.all()
        if kind in (None, e.kind)
    ]
    rows += [
        ("plugin", s.owner.plugin, s.owner.plugin, s.owner.distribution, s.owner.version, s.state, s.reason)
        for s in plugins.statuses
        if s.state != "loaded"
    ]
    names = ("kind", "name", "plugin", "distribution", "version", "state", "about")
    if as_json:
        click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2, ensure_ascii=False))
        return
    widths = [max(len(row[i]) for row in (names, *rows)) for i in range(6)]
    for row in (names, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row[:6], widths, strict=True)]
        click.echo("  ".join([*cells, row[6]]).rstrip())


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


@command.command("new")
@click.argument("kind")
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The folder to write; by default its name.")
@click.option("--licence", "--license", default="Apache-2.0", show_default=True, help="Or MIT, BSD-3-Clause.")
@click.option("--holder", default="", help="Who holds the copyright; by default the authors of the distribution.")
def new(kind: str, name: str, output: Path | None, licence: str, holder: str) -> None:
    """Write an installable plugin with one working component.

    KIND is encoder, fusion, loss, objective, learner, task, modality, compressor or exporter; NAME what recipes call
    it, such as router, or with an owner acme:router.
    """
    from automm.scaffold import scaffold

    made = scaffold(kind, name, output, licence, holder)
    place = output or Path(made.distribution)
    click.echo(f"wrote {place}: the {kind} {made.reference} in src/{made.package}/__init__.py")
    click.echo(
        f"next:\n  cd {place}\n  pip install -e '.[test]'\n  pytest\n  python make_data.py && automm fit recipe.yaml"
    )


class Outcome(NamedTuple):
    """How a check went; `reason` is empty if it passed."""

    kind: str
    name: str
    owner: str
    check: str
    reason: str


@command.command("check")
@click.argument("name")
@click.option("--kind", help="Only components of this kind.")
@click.option("--only", multiple=True, metavar="CHECK", help="Only checks whose name contains this.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="A field of the configuration to try.")
@click.option("--plugin", "files", multiple=True, type=click.Path(path_type=Path), help="Load a local plugin file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    name: str,
    kind: str | None,
    only: tuple[str, ...],
    settings: tuple[str, ...],
    files: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Run the conformance kit on NAME: a component (router, acme:router), or all of a plugin or a distribution."""
    plugins = load_plugins(files=files)
    found = _named(plugins, name, kind)
    import torch  # noqa: F401  (absent: one message, and not one per check)

    outcomes = [
        Outcome("plugin", status.owner.plugin, str(status.owner), "has_manners", text)
        for status in plugins.statuses
        for text in status.complaints
        if str(status.owner) in {owner for _, owner in found}
    ]
    for cls, owner in found:
        if not as_json:
            click.echo(f"{cls.kind} {cls.name}, plugin {owner}")
        for outcome in _checked(cls, owner, only, _fields(settings)):
            outcomes.append(outcome)
            if not as_json:
                said = f"FAIL  {outcome.check}: {outcome.reason}" if outcome.reason else f"pass  {outcome.check}"
                click.echo(f"  {said}")
    failed = [outcome for outcome in outcomes if outcome.reason]
    if as_json:
        click.echo(json.dumps([outcome._asdict() for outcome in outcomes], indent=2, ensure_ascii=False))
    else:
        for outcome in outcomes:
            if outcome.kind == "plugin":
                click.echo(f"plugin {outcome.owner}\n  FAIL  {outcome.check}: {outcome.reason}")
        click.echo(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    return int(ExitCode.PLUGIN if failed else ExitCode.OK)


def _named(plugins: Plugins, name: str, kind: str | None) -> list[tuple[Any, str]]:
    """Component classes with their owners.

    Raises:
        PluginError: If there are none, with why the plugin of that name is not loaded.
    """
    owner, _, short = name.rpartition(":")
    found = [
        (entry.cls, str(entry.owner))
        for entry in plugins.registry.all()
        if kind in (None, entry.kind)
        and (
            (entry.name == short and owner in ("", entry.owner.plugin, entry.owner.distribution))
            or (not owner and name in (entry.owner.plugin, entry.owner.distribution))
        )
    ]
    if found:
        return found
    for status in plugins.statuses:
        if status.state != "loaded" and (owner or name) in (status.owner.plugin, status.owner.distribution):
            raise PluginError(f"plugin {status.owner} is {status.state}: {status.reason}")
    kinds = [kind] if kind else list(plugins.registry.entries)
    near = [
        plugins.registry.unknown(k, name).partition(" (there are")[0] for k in kinds if k in plugins.registry.entries
    ]
    hint = next((text.partition("; ")[2] for text in near if "did you mean" in text), "")
    raise PluginError(
        "\n".join([f"no component or plugin {name!r}" + (f"; {hint}" if hint else ""), *plugins.absent()])
    )


def _fields(settings: tuple[str, ...]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: write FIELD=VALUE")
        try:
            fields[name] = json.loads(text)
        except ValueError:
            fields[name] = text
    return fields


def _checked(cls: Any, owner: str, only: tuple[str, ...], fields: dict[str, Any]) -> Any:
    """Runs the checks one by one; whatever a check raises is its reason."""
    from automm.testing import checks_for

    for one in checks_for(cls, config=fields):
        if only and not any(word in one.name for word in only):
            continue
        reason = ""
        # What a component prints must stay out of the JSON.
        with contextlib.redirect_stdout(sys.stderr):
            try:
                one()
            except Exception as problem:
                told = str(problem).strip() or "no message"
                reason = told if isinstance(problem, AssertionError) else f"{type(problem).__name__}: {told}"
        yield Outcome(cls.kind, cls.name, owner, one.name, reason.partition("\n")[0])
