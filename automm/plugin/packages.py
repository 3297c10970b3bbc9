"""Finished packages, for the exporters of plugins. What reads them is imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automm.runtime.manifest import Manifest
    from automm.runtime.predictor import Predictor


def read_manifest(package: Path) -> tuple[Manifest, str]:
    """The manifest of a package, and its SHA-256.

    Raises:
        PackageError: If there is no package, or its manifest is not a valid one.
    """
    from automm.runtime.package import read_manifest

    return read_manifest(package)


def copy_package(package: Path, folder: Path, *, resume: bool = False) -> None:
    """Copies a package: the manifest and the files that it lists, each after its digest was checked.

    Args:
        package: The package.
        folder: Where the copy goes; made if absent.
        resume: Whether it can be updated, too. What an update starts from holds training rows, and nothing that
            predicts reads it: it should not travel with what is published.

    Raises:
        PackageError: If a file is missing, changed or no plain file.
    """
    from automm.runtime import strictjson
    from automm.runtime.files import PackageFiles, read_plain
    from automm.runtime.manifest import FILE, LARGEST, RESUME

    manifest, _ = read_manifest(package)
    root = package.resolve()
    files = PackageFiles(root, manifest.files)
    kept = {name: part for name, part in manifest.files.items() if resume or not name.startswith(RESUME)}
    for relative in kept:
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(files.read(relative))
    if len(kept) == len(manifest.files):
        (folder / FILE).write_bytes(read_plain(root, FILE, LARGEST))
    else:
        content = manifest.model_copy(update={"files": kept})
        (folder / FILE).write_bytes(strictjson.dumps(content.model_dump(mode="json")))


def load_package(package: Path) -> Predictor:
    """What predicts with a package; the same as `automm.load`.

    Raises:
        PackageError: If the package is damaged, foreign or refused.
    """
    from automm.runtime.predictor import load

    return load(package)
