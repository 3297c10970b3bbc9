"""Writing a package: whole or not at all."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import automm
from automm.core.cells import is_null
from automm.errors import PluginError, StorageError
from automm.package import card
from automm.package.content import PackageContent, PackageInput
from automm.runtime import manifest as parts
from automm.runtime import ops, strictjson
from automm.runtime.inputs import RuntimeInput
from automm.runtime.limits import limits_of
from automm.runtime.media import resolve_cells
from automm.runtime.package import open_package
from automm.runtime.rows import encode_rows
from automm.runtime.session import Session
from automm.runtime.state import split_state, write_npz

GRAPH = "graphs/main.onnx"


def write_package(folder: Path, content: PackageContent) -> Path:
    """Writes a package, opens it once with all its checks, and only then gives it its name.

    Args:
        folder: The package folder; an older package there is replaced, anything else is not touched.
        content: What goes in.

    Returns:
        The package folder.

    Raises:
        StorageError: If the disk is full or not writable, or the folder holds something else.
        PluginError: If the model cannot be exported or a processor's state cannot be stored.
        VerificationError: If the written package does not answer as it did while it was written.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() and not (folder / parts.FILE).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise StorageError(f"{folder}: holds something that is not a package; name another folder")
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        temporary.chmod(0o755)
        _Writer(temporary, content).write()
        open_package(temporary, threads=1)
        flush(temporary)
        put_in_place(temporary, folder)
    except OSError as problem:
        where = problem.filename or folder
        raise StorageError(f"cannot write the package {folder}: {problem.strerror} ({where})") from problem
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def flush(folder: Path) -> None:
    """Hands every file and folder to the disk, so that the rename cannot overtake the content."""
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def put_in_place(temporary: Path, folder: Path) -> None:
    """Gives a finished folder its name; a package that was there is replaced."""
    old = None
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
        folder.rename(old / folder.name)
    try:
        temporary.rename(folder)
    except OSError:
        if old is not None:
            (old / folder.name).rename(folder)
        raise
    finally:
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
    handle = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Writer:
    """Fills one folder and keeps the list of its files."""

    def __init__(self, root: Path, content: PackageContent) -> None:
        self.root, self.content = root, content
        self.files: dict[str, parts.FilePart] = {}

    def add(self, relative: str, data: bytes) -> str:
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.files[relative] = parts.FilePart(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        return relative

    def write(self) -> None:
        content = self.content
        graph, session = self.graph()
        inputs = tuple(self.input(item) for item in content.inputs)
        decoder = content.task.decoder()
        target = content.task.target()
        golden = self.golden(session)
        plan, recipe = strictjson.dumps(dict(content.plan)), content.recipe.encode()
        self.add("provenance/recipe.yaml", recipe)
        self.add("provenance/plan.json", plan)
        self.add("provenance/resolved.json", strictjson.dumps(dict(content.resolved)))
        self.add("provenance/environment.json", strictjson.dumps(card.environment()))
        metrics = parts.MetricsPart(**{side: _finite(content.metrics.get(side, {})) for side in ("valid", "test")})
        self.add("provenance/metrics.json", strictjson.dumps(metrics.model_dump()))
        if content.compression:
            self.add("provenance/compression.json", strictjson.dumps(dict(content.compression)))
        for relative, data in content.extra.items():
            self.add(relative, data)
        manifest = parts.Manifest(
            format="automm",
            format_version=1,
            name=content.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            automm=automm.__version__,
            task=parts.TaskPart(
                name=content.task.name,
                owner=parts.OwnerPart(distribution=content.task_owner[0], version=content.task_owner[1]),
                config=content.task.config.model_dump(mode="json"),
                state=_plain_state(content),
            ),
            target=parts.TargetPart(
                columns=content.target_columns, kind=target.kind, size=target.size, names=tuple(target.names)
            ),
            inputs=inputs,
            graphs={"main": graph},
            decoder=parts.DecoderPart(
                op=decoder.op,
                version=decoder.version,
                owner=_owner(decoder.op),
                config=decoder.config.model_dump(mode="json"),
            ),
            metrics=metrics,
            tolerance=content.tolerance,
            golden=golden,
            lineage=parts.LineagePart(
                parent=content.parent,
                recipe=hashlib.sha256(recipe).hexdigest(),
                plan=hashlib.sha256(plan).hexdigest(),
                data=content.data_digest,
                seed=content.seed,
            ),
            files=dict(self.files),
        )
        self.add("requirements.txt", card.requirements(manifest).encode())
        self.add("README.md", card.model_card(manifest, decoder.columns(), content.compression).encode())
        manifest = manifest.model_copy(update={"files": dict(sorted(self.files.items()))})
        (self.root / parts.FILE).write_bytes(strictjson.dumps(manifest.model_dump(mode="json")))

    def graph(self) -> tuple[parts.GraphPart, Session]:
        import onnx

        path = self.root / GRAPH
        path.parent.mkdir(parents=True)
        self.content.exporter.export_graph(self.content.graph, path)
        data = path.read_bytes()
        self.add(GRAPH, data)
        session = Session(data, GRAPH, threads=1)
        opset = max(item.version for item in onnx.load_from_string(data).opset_import if item.domain in ("", "ai.onnx"))
        return parts.GraphPart(file=GRAPH, inputs=session.inputs, outputs=session.outputs, opset=opset), session

    def input(self, item: PackageInput) -> parts.InputPart:
        processor = item.processor
        try:
            state, arrays = split_state(processor.state)
        except ValueError as problem:
            raise PluginError(f"processor {processor.op!r} of input {item.info.name!r}: {problem}") from None
        return parts.InputPart(
            name=item.info.name,
            slug=item.slug,
            modality=item.info.modality,
            columns=item.info.columns,
            types=dict(item.info.types),
            optional=item.optional,
            processor=parts.ProcessorPart(
                op=processor.op,
                version=processor.version,
                owner=_owner(processor.op),
                config=processor.config.model_dump(mode="json"),
                state=self.add(f"assets/{item.slug}.json", strictjson.dumps(state, indent=None)),
                arrays=self.add(f"assets/{item.slug}.npz", write_npz(arrays)) if arrays else None,
            ),
            arrays={name: parts.ArrayPart.model_validate(spec._asdict()) for name, spec in processor.specs().items()},
            limits=limits_of(processor),
        )

    def golden(self, session: Session) -> parts.GoldenPart | None:
        """Runs the golden rows that can be used, and stores them with their arrays and answers."""
        readers = [
            RuntimeInput(item.info.name, item.slug, item.info.columns, item.processor) for item in self.content.inputs
        ]
        rows = []
        columns = list(dict.fromkeys(column for reader in readers for column in reader.columns))
        for row in self.content.golden_rows:
            one = {column: [row.get(column)] for column in columns}
            if not any(reader.arrays(one, 1, self.content.folder)[1] for reader in readers):
                rows.append({column: row.get(column) for column in columns})
        if not rows:
            return None
        table = {column: [row[column] for row in rows] for column in columns}
        arrays: dict[str, np.ndarray] = {}
        for reader in readers:
            arrays.update(reader.arrays(table, len(rows), self.content.folder)[0])
        answers = self.content.task.decoder().drive({"main": session}, arrays)
        media: list[str] = []

        def keep(data: bytes, suffix: str = "") -> str:
            name = f"media/{len(media)}{'' if suffix.lower() in parts.CODE else suffix}"
            media.append(self.add(f"golden/{name}", data))
            return name

        kept = [dict(row) for row in rows]
        readers_of = {name: item for item in self.content.inputs if item.processor.media for name in item.info.columns}
        for row in kept:
            for column, item in readers_of.items():  # once, also where several inputs read a column
                row[column] = self._moved(item, row[column], keep)
        try:
            inputs = encode_rows(kept, keep)
        except ValueError as problem:
            raise PluginError(f"golden rows: {problem}") from None
        return parts.GoldenPart(
            rows=len(rows),
            inputs=self.add("golden/inputs.json", inputs),
            arrays=self.add("golden/arrays.npz", write_npz(arrays)),
            answers=self.add("golden/answers.npz", write_npz(answers)),
            media=tuple(media),
        )

    def _moved(self, item: PackageInput, cell: Any, keep: Any) -> Any:
        """A media path → the path of its copy in the golden folder."""
        if is_null(cell):
            return None
        path = resolve_cells(item.processor, [cell], self.content.folder)[0]
        return keep(path.read_bytes(), path.suffix) if isinstance(path, Path) else cell


def _owner(op: str) -> parts.OwnerPart:
    name, version = ops.distribution(op)
    return parts.OwnerPart(distribution=name, version=version)


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that have a value; one that is undefined on the rows (one class only, say) is NaN."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _plain_state(content: PackageContent) -> dict[str, Any]:
    try:
        state, arrays = split_state(content.task.state)
    except ValueError as problem:
        raise PluginError(f"task {content.task.name!r}: {problem}") from None
    if arrays:
        raise PluginError(f"task {content.task.name!r}: its state must be plain JSON, it holds arrays")
    return state


__all__ = ["PackageContent", "PackageInput", "write_package"]
