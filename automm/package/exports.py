"""Writing a finished package in a foreign format: whole or not at all. Torch-free."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

from automm.core.config import Config
from automm.core.kinds import Exporter
from automm.errors import StorageError
from automm.plugin.blame import blamed
from automm.plugin.registry import Registry
from automm.report.folder import storage_errors

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def export_folder(
    registry: Registry, cls: type[Exporter], config: Config, package: Path, folder: Path, *, replace: bool = False
) -> Path:
    """Has an exporter write the package; the folder appears under its name only when it is complete.

    Args:
        registry: Knows whose exporter it is, for the message if it raises.
        cls: An exporter that makes folders.
        config: Its configuration.
        package: The package.
        folder: Where the export goes; an empty folder is taken.
        replace: Take also a folder that holds something: it is deleted once the new one is complete.

    Raises:
        PluginError: Naming the exporter that raised.
        StorageError: If the folder holds something, or the disk is full or not writable.
    """
    folder = folder.absolute()
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise StorageError(f"{folder}: exists and is not a folder; name another one")
    if not replace and folder.exists() and any(folder.iterdir()):
        raise StorageError(f"{folder}: is not empty; name another folder, or replace it with --force")
    inner, outer = package.resolve(), folder.resolve()
    if inner == outer or inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise StorageError(f"{folder}: one of the package and its export would lie in the other; name another folder")
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        partial.chmod(0o755)
    try:
        with blamed(registry, cls, "export_package"):
            _export(cls(config), package, partial, folder)
        with storage_errors(folder):
            if folder.exists():
                shutil.rmtree(folder)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _export(exporter: Exporter, package: Path, partial: Path, folder: Path) -> None:
    """A full disk is nobody's fault; any other exception is the exporter's."""
    try:
        exporter.export_package(package, partial)
    except OSError as problem:
        if problem.errno not in FULL:
            raise
        with storage_errors(folder):
            raise
