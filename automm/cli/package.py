"""`automm package`: looking into packages, checking, comparing and signing them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automm.errors import UsageError

if TYPE_CHECKING:
    from automm.runtime.manifest import Manifest

PACKAGE = click.Path(path_type=Path)
plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=PACKAGE,
    help="Local plugin file whose operations the package needs. The file is run.",
)


@click.group("package")
def command() -> None:
    """Inspect, verify, compare or sign a package."""


@command.command()
@click.argument("path", type=PACKAGE)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest itself.")
def inspect(path: Path, as_json: bool) -> None:
    """Says what the package at PATH predicts, from what, and how well.

    Only the manifest is read; nothing of the package is run.
    """
    from automm.runtime import strictjson
    from automm.runtime.manifest import SIGNATURE
    from automm.runtime.package import read_manifest

    manifest, digest = read_manifest(path)
    if as_json:
        click.echo(strictjson.dumps(manifest.model_dump(mode="json")).decode(), nl=False)
        return
    signed = f"yes ({SIGNATURE}; check it with automm package verify --public-key FILE)"
    click.echo(f"{manifest.name}  ({manifest.task.name}, automm {manifest.automm}, {manifest.created})")
    click.echo(f"digest   {digest}")
    click.echo(f"signed   {signed if (path / SIGNATURE).is_file() else 'no'}")
    click.echo("\n".join(_described(manifest)))


def _described(manifest: Manifest) -> list[str]:
    size = sum(part.bytes for part in manifest.files.values())
    classes = f": {', '.join(manifest.target.names[:10])}" if manifest.target.names else ""
    lines = [
        f"size     {size / 2**20:.1f} MiB in {len(manifest.files)} files",
        f"target   {', '.join(manifest.target.columns)} ({manifest.target.kind}{classes})",
    ]
    for part in manifest.inputs:
        named = part.processor
        owner = f"{named.owner.distribution} {named.owner.version}"
        lines.append(f"input    {part.name} ({part.modality}) by {named.op} version {named.version} of {owner}")
        lines.append(f"         columns: {', '.join(part.columns)}")
        bounds = ", ".join(f"{name} ≤ {bound:,.0f}" for name, bound in part.limits.items())
        lines.append(f"         limits: {bounds or 'none'}")
    for name, graph in manifest.graphs.items():
        shown = manifest.files[graph.file]
        lines.append(f"graph    {name}: {shown.bytes / 2**20:.1f} MiB, opset {graph.opset}, {shown.sha256[:12]}")
    for side, metrics in (("valid", manifest.metrics.valid), ("test", manifest.metrics.test)):
        if metrics:
            lines.append(f"{side:8} " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
    if manifest.lineage.parent is not None:
        lines.append(f"parent   {manifest.lineage.parent}")
    return lines


@command.command()
@click.argument("path", type=PACKAGE)
@click.option("--public-key", type=PACKAGE, help="Check the signature with this key (PEM) before anything else.")
@plugin_option
def verify(path: Path, public_key: Path | None, plugins: tuple[Path, ...]) -> None:
    """Checks every file of the package at PATH against its digest and runs its own examples.

    A file that the manifest does not list is an error; none is ever opened.
    """
    from automm.package.signature import complete, verify_signature
    from automm.runtime import ops
    from automm.runtime.manifest import SIGNATURE
    from automm.runtime.package import open_package

    if public_key is not None:
        verify_signature(path, public_key)
    files = complete(path)
    for file in plugins:
        ops.add_file(file)
    golden = open_package(path).manifest.golden
    click.echo(f"{len(files.listing)} files and {golden.rows if golden else 0} examples are as they were written")
    if public_key is not None:
        click.echo(f"signed by {public_key}")
    elif (path / SIGNATURE).exists():
        click.echo("signed; the signature was not looked at: name the key with --public-key FILE", err=True)


@command.command()
@click.argument("path", type=PACKAGE)
@click.option("--key", required=True, type=PACKAGE, help="Private key (PEM; curve P-256, P-384 or P-521).")
@click.option("--password-file", type=PACKAGE, help="File that holds the key's password.")
def sign(path: Path, key: Path, password_file: Path | None) -> None:
    """Signs the package at PATH; the signature becomes its file model.sig.

    Needs automm[sign]. No network is used.
    """
    from automm.package.signature import sign_package

    password = None
    if password_file is not None:
        if not password_file.is_file():
            raise UsageError(f"{password_file}: no such file")
        password = password_file.read_bytes().rstrip(b"\r\n")
    click.echo(f"signature in {sign_package(path, key, password)}")


@command.command()
@click.argument("a", type=PACKAGE)
@click.argument("b", type=PACKAGE)
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
@click.option("--latency", is_flag=True, help="Also load both and time them on their examples, one row at a time.")
@plugin_option
def diff(a: Path, b: Path, as_json: bool, latency: bool, plugins: tuple[Path, ...]) -> int:
    """Says what differs between packages A and B: inputs, processors, graph, metrics, size, lineage.

    Exit code 0 if nothing differs, 1 if something does. The time of writing and measured latency are no difference.
    """
    from automm.package.compare import compare
    from automm.runtime import ops, strictjson
    from automm.runtime.package import read_manifest

    (first, digest), (second, other) = read_manifest(a), read_manifest(b)
    found = compare(first, second)
    for file in plugins:
        ops.add_file(file)
    times = _latencies(a, b) if latency else None
    if as_json:
        report: dict[str, Any] = {
            "equal": not found,
            "a": {"path": str(a), "digest": digest},
            "b": {"path": str(b), "digest": other},
            "b_continues_a": second.lineage.parent == digest,
            "differences": {section: [item._asdict() for item in items] for section, items in found.items()},
            "latency_ms": times,
        }
        click.echo(strictjson.dumps(report).decode(), nl=False)
        return int(bool(found))
    for section, items in found.items():
        click.echo(section)
        for item in items:
            click.echo(f"  {item.what}: {_shown(item.a)} → {_shown(item.b)}{_change(item.a, item.b)}")
    if second.lineage.parent == digest:
        click.echo("B continues A")
    if times:
        click.echo(f"latency of one row: {times['a']:.3f} ms → {times['b']:.3f} ms")
    if not found:
        click.echo("no difference")
    return int(bool(found))


def _latencies(a: Path, b: Path) -> dict[str, float]:
    from automm.package.timing import golden_latency

    both = golden_latency([a, b])
    return {"a": both[0], "b": both[1]}


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value) if not isinstance(value, list) else ", ".join(map(str, value))
    return "–" if value is None else text[:12] if len(text) == 64 and " " not in text else text[:120]


def _change(a: Any, b: Any) -> str:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b))
    return f"  ({b - a:+,.6g})" if numbers else ""


@command.command()
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
def schema(output: Path | None) -> None:
    """Writes the JSON schema of the manifest."""
    from automm.package.schema import manifest_schema
    from automm.report.folder import write_json
    from automm.runtime import strictjson

    if output is not None:
        write_json(output, manifest_schema())
    else:
        click.echo(strictjson.dumps(manifest_schema()).decode(), nl=False)
