"""`automm export`: a package in another format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pydantic

from automm.errors import UsageError

if TYPE_CHECKING:
    from automm.core.config import Config
    from automm.core.kinds import Exporter
    from automm.plugin.registry import Registry


@click.command("export")
@click.argument("name", metavar="FORMAT")
@click.argument("package", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder to write; by default export/FORMAT.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="A setting of the format; repeatable.")
@click.option("--force", is_flag=True, help="Replace a folder that holds something.")
@click.option("--block", multiple=True, metavar="NAME", help="Leave a plugin out.")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Local plugin file with the exporter, or with operations of the package. The file is run.",
)
def command(
    name: str,
    package: Path,
    out: Path | None,
    settings: tuple[str, ...],
    force: bool,
    block: tuple[str, ...],
    plugins: tuple[Path, ...],
) -> None:
    """Writes PACKAGE in another FORMAT: docker, kubernetes, kserve, triton, mlflow, huggingface, or a plugin's.

    The package itself stays as it is. The written folder has a README that says how to use it; docs/deploy.md tells the
    formats and their settings.
    """
    from automm.package.exports import export_folder
    from automm.plugin.loader import load_plugins
    from automm.plugin.packages import read_manifest
    from automm.runtime import ops

    registry = load_plugins(block=block, files=plugins).registry
    cls = _exporter(registry, name)
    config = _config(cls, name, settings)
    manifest, _ = read_manifest(package)
    for file in plugins:
        ops.add_file(file)
    folder = out if out is not None else Path("export") / name.replace(":", "_")
    export_folder(registry, cls, config, package, folder, replace=force)
    click.echo(f"{manifest.name} as {name}: {folder}")
    if (folder / "README.md").is_file():
        click.echo(f"next: {folder / 'README.md'}")


def _exporter(registry: Registry, name: str) -> type[Exporter]:
    """The exporter of that name.

    Raises:
        PluginError: If there is none.
        UsageError: If it makes the package's own graph.
    """
    cls: type[Exporter] = registry.get("exporter", name)
    if cls.makes != "folder":
        names = [registry.unique_name(entry) for entry in registry.all("exporter") if entry.cls.makes == "folder"]  # type: ignore[attr-defined]
        raise UsageError(
            f"{name} makes the graph that every package holds already (in graphs/); formats to export are: "
            f"{', '.join(names)}"
        )
    return cls


def _config(cls: type[Exporter], name: str, settings: tuple[str, ...]) -> Config:
    """The configuration from `--set` options; a value that begins with [ or { is JSON.

    Raises:
        UsageError: Naming the setting that does not fit, and the settings that there are.
    """
    fields = ", ".join(cls.Config.model_fields) or "none"
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or key not in cls.Config.model_fields:
            wrong = f"no setting {key!r} of {name}" if equals else "not FIELD=VALUE"
            raise UsageError(f"--set {setting}: {wrong}; settings of {name} are: {fields}")
        if key in values:
            raise UsageError(f"--set {setting}: {key} is set twice")
        try:
            values[key] = json.loads(text) if text.startswith(("[", "{")) else text
        except ValueError as problem:
            raise UsageError(f"--set {setting}: not JSON: {problem}") from None
    try:
        return cls.Config.model_validate(values)
    except pydantic.ValidationError as problem:
        lines = [
            f"--set {error['loc'][0]}={values[str(error['loc'][0])]}: {error['msg']}" if error["loc"] else error["msg"]
            for error in problem.errors()
        ]
        raise UsageError("\n".join(lines)) from None
