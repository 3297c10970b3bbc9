"""`automm package`: looking into packages and checking them."""

from __future__ import annotations

from pathlib import Path

import click

from automm.errors import PackageError


@click.group("package")
def command() -> None:
    """Inspect or verify a package."""


@command.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest itself.")
def inspect(path: Path, as_json: bool) -> None:
    """Says what the package at PATH predicts, from what, and how well.

    Only the manifest is read; nothing of the package is run.
    """
    from automm.runtime import strictjson
    from automm.runtime.package import read_manifest

    manifest, digest = read_manifest(path)
    if as_json:
        click.echo(strictjson.dumps(manifest.model_dump(mode="json")).decode(), nl=False)
        return
    size = sum(part.bytes for part in manifest.files.values())
    click.echo(f"{manifest.name}  ({manifest.task.name}, automm {manifest.automm}, {manifest.created})")
    click.echo(f"digest   {digest}")
    click.echo(f"size     {size / 2**20:.1f} MiB in {len(manifest.files)} files")
    classes = f": {', '.join(manifest.target.names[:10])}" if manifest.target.names else ""
    click.echo(f"target   {', '.join(manifest.target.columns)} ({manifest.target.kind}{classes})")
    for part in manifest.inputs:
        named = part.processor
        owner = f"{named.owner.distribution} {named.owner.version}"
        click.echo(f"input    {part.name} ({part.modality}) by {named.op} version {named.version} of {owner}")
        click.echo(f"         columns: {', '.join(part.columns)}")
    for side, metrics in (("valid", manifest.metrics.valid), ("test", manifest.metrics.test)):
        if metrics:
            click.echo(f"{side:8} " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))


@command.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Local plugin file whose operations the package needs. The file is run.",
)
def verify(path: Path, plugins: tuple[Path, ...]) -> None:
    """Checks every file of the package at PATH against its digest and runs its own examples.

    Files that the manifest does not list are named; they are never opened.
    """
    from automm.runtime import ops
    from automm.runtime.package import open_package

    for file in plugins:
        ops.add_file(file)
    package = open_package(path)
    problems = []
    for relative in package.files.listing:
        try:
            package.files.read(relative)
        except PackageError as problem:
            problems.append(str(problem))
    if problems:
        raise PackageError("\n".join(problems))
    for relative in package.files.unlisted():
        click.echo(f"not part of the package: {relative}", err=True)
    golden = package.manifest.golden
    click.echo(
        f"{len(package.files.listing)} files and {golden.rows if golden else 0} examples are as they were written"
    )
