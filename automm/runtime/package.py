"""Opening a package: everything is checked before it is used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic

from automm.core.decoder import Decoder
from automm.errors import AutommError, DataError, PackageError
from automm.runtime import manifest as manifests
from automm.runtime import ops
from automm.runtime.files import PackageFiles, read_plain
from automm.runtime.inputs import RuntimeInput, load_processor
from automm.runtime.manifest import DecoderPart, Manifest
from automm.runtime.session import Session


class Package:
    """An opened package.

    Attributes:
        path: Its folder.
        manifest: What the folder's `automm.json` says.
        digest: SHA-256 of the manifest, which holds the digests of all files: names this package and no other.
        files: Its listed files.
        inputs: The inputs, with their processors.
        graphs: Graph name → session.
        decoder: Turns answers into result columns.
        columns: The table columns that the inputs read, in order, each once.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        digest: str,
        files: PackageFiles,
        inputs: Sequence[RuntimeInput],
        graphs: Mapping[str, Session],
        decoder: Decoder,
    ) -> None:
        self.path, self.manifest, self.digest, self.files = path, manifest, digest, files
        self.inputs, self.graphs, self.decoder = tuple(inputs), dict(graphs), decoder
        self.columns = tuple(dict.fromkeys(column for item in self.inputs for column in item.columns))

    def arrays(
        self, table: Mapping[str, Sequence[Any]], rows: int, folder: Path | None
    ) -> tuple[dict[str, np.ndarray], dict[int, str]]:
        """Cells of all inputs → arrays, and position → reason for the rows that cannot be used."""
        arrays: dict[str, np.ndarray] = {}
        refused: dict[int, str] = {}
        for item in self.inputs:
            found, reasons = item.arrays(table, rows, folder)
            arrays.update(found)
            for at, reason in reasons.items():
                refused[at] = f"{refused[at]}; {reason}" if at in refused else reason
        return arrays, refused

    def answers(
        self, table: Mapping[str, Sequence[Any]], rows: int, folder: Path | None
    ) -> tuple[dict[str, np.ndarray], dict[int, str]]:
        """Runs the model on raw cells.

        Args:
            table: Column → cells, `rows` each; all of `columns` must be there.
            rows: Number of rows.
            folder: Where media paths start.

        Returns:
            Answer name → [rows that were not refused, …] in their order, and position → reason for the refused rows.

        Raises:
            DataError: If there are more rows than the package takes at a time.
        """
        if rows > self.manifest.limits.rows:
            most = self.manifest.limits.rows
            raise DataError(f"{rows:,} rows at a time are over the package's limit of {most:,}; take smaller batches")
        arrays, refused = self.arrays(table, rows, folder)
        if refused:
            kept = [at for at in range(rows) if at not in refused]
            if not kept:
                return {}, refused
            arrays = {name: array[kept] for name, array in arrays.items()}
        answers = self.run(arrays, rows - len(refused))
        broken = _not_finite(answers, rows - len(refused))
        if broken.any():
            kept = [at for at in range(rows) if at not in refused]
            refused.update({kept[at]: "the model's answer is not a finite number" for at in np.flatnonzero(broken)})
            answers = {name: array[~broken] for name, array in answers.items()}
        return answers, dict(sorted(refused.items()))

    def run(self, arrays: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
        """Arrays → answers of all rows.

        Raises:
            PackageError: If an answer has another number of rows.
        """
        answers = self.decoder.drive(self.graphs, arrays)
        for name, array in answers.items():
            if array.ndim == 0 or len(array) != rows:
                raise PackageError(f"answer {name!r} has shape {array.shape} for {rows} rows")
        return answers


def _not_finite(answers: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    broken = np.zeros(rows, bool)
    for array in answers.values():
        if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
            broken |= ~finite.reshape(rows, -1).all(1)
    return broken


def read_manifest(path: Path | str) -> tuple[Manifest, str]:
    """The manifest of a package, and its SHA-256; nothing else of the package is opened.

    Raises:
        PackageError: If there is no package, or the manifest is not a valid one.
    """
    root = Path(path)
    if not root.is_dir():
        raise PackageError(f"{path}: no such folder; a package is a folder that holds {manifests.FILE}")
    data = read_plain(root.resolve(), manifests.FILE, manifests.LARGEST)
    return manifests.parse(data), hashlib.sha256(data).hexdigest()


def open_package(
    path: Path | str, *, threads: int | None = None, verify: Literal["goldens", "hashes"] = "goldens"
) -> Package:
    """Opens a package.

    Args:
        path: Its folder.
        threads: Threads inside one run of a graph; by default one per core.
        verify: "goldens" also runs the package's own examples (a few rows) and compares; "hashes" only checks files.

    Raises:
        PackageError: If a file is missing, changed, unlisted or no plain file, or an operation is not installed.
        VerificationError: If the examples come out differently on this machine.
    """
    manifest, digest = read_manifest(path)
    root = Path(path).resolve()
    files = PackageFiles(root, manifest.files)
    if strange := files.unlisted(hidden=False):
        more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
        raise PackageError(
            f"{path}: holds files that the manifest does not list: {', '.join(strange[:5])}{more}; remove them"
        )
    graphs = {}
    for name, graph in manifest.graphs.items():
        session = Session(files.read(graph.file), graph.file, threads)
        if set(session.inputs) != set(graph.inputs) or set(session.outputs) != set(graph.outputs):
            raise PackageError(f"{graph.file}: its inputs and outputs are not the ones in the manifest")
        _check_types(session, manifest)
        graphs[name] = session
    inputs = [
        RuntimeInput(part.name, part.slug, part.columns, load_processor(part, files), part.limits)
        for part in manifest.inputs
    ]
    package = Package(root, manifest, digest, files, inputs, graphs, _load_decoder(manifest.decoder))
    if verify == "goldens":
        from automm.runtime.goldens import check_goldens

        check_goldens(package)
    return package


def _check_types(session: Session, manifest: Manifest) -> None:
    """Compares what a graph takes with what the processors give: types, number of sizes, and fixed sizes."""
    given: dict[str, tuple[str, tuple[int | str, ...]]] = {}
    for part in manifest.inputs:
        given[f"{part.slug}.present"] = ("bool", ())
        given |= {f"{part.slug}.{name}": (array.dtype, array.shape) for name, array in part.arrays.items()}
    for name, (dtype, sizes) in session.types.items():
        if name not in given:
            continue
        wanted, shape = given[name]
        pairs = zip(sizes[1:], shape, strict=False)
        other = any(isinstance(size, int) and size != found for size, found in pairs)
        if dtype != wanted or len(sizes) != 1 + len(shape) or isinstance(sizes[0], int) or other:
            raise PackageError(
                f"{session.what}: takes {name!r} as {dtype} {list(sizes)}, the manifest gives {wanted} "
                f"{['batch', *shape]}"
            )


def _load_decoder(part: DecoderPart) -> Decoder:
    cls = ops.find(part.op, part.version, part.owner.distribution, part.owner.version)
    try:
        decoder: Decoder = cls(cls.Config.stored(part.config))
    except pydantic.ValidationError as problem:
        raise PackageError(f"the decoder's configuration does not fit {part.op!r}: {problem}") from None
    except AutommError:
        raise
    except Exception as problem:
        raise PackageError(f"decoder {part.op!r} cannot be restored: {type(problem).__name__}: {problem}") from problem
    return decoder
