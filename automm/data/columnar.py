"""Typed sources (Parquet, Arrow, `datasets` folders and hub names), and the plain types that a table holds."""

from __future__ import annotations

import hashlib
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from automm.core.cells import NULLS
from automm.data.table import is_media
from automm.errors import DataError, MissingExtraError

_NULLS = pa.array(sorted(NULLS))
_LONGEST_NULL = 8
BATCH_BYTES = 8 * 2**20
HUB = re.compile(r"hf://(?P<name>[^:#]+)(:(?P<config>[^#]+))?(#(?P<split>.+))?")


@dataclass(frozen=True)
class Columnar:
    """A typed source, ready to be read.

    Attributes:
        schema: Its columns, in the types of the source.
        notes: Remarks for the report.
        digest: Hash of its content.
        read: Gives its rows.
        count: Number of its rows, if its head says so.
    """

    schema: pa.Schema
    notes: tuple[str, ...]
    digest: str
    read: Callable[[], Iterator[pa.RecordBatch]]
    count: int | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows."""
        return self.read()


def file_digest(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _rows_per_batch(schema: pa.Schema, row_bytes: float = 0) -> int:
    """Few rows where cells may be whole files or rows are known to be large, so that a batch stays small."""
    most = max(64, int(BATCH_BYTES / max(row_bytes, 1)))
    return (
        min(most, 8192)
        if all(pa.types.is_primitive(kind) or pa.types.is_string(kind) for kind in schema.types)
        else min(most, 256)
    )


def open_parquet(path: Path) -> Columnar:
    """A Parquet file.

    Raises:
        DataError: If it is damaged.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, meta = file.schema_arrow, file.metadata
            count = meta.num_rows
            size = sum(meta.row_group(at).total_byte_size for at in range(meta.num_row_groups))
    except (pa.ArrowException, OSError) as problem:
        raise DataError(f"{path}: not a readable Parquet file: {problem}") from None

    def read() -> Iterator[pa.RecordBatch]:
        try:
            with pq.ParquetFile(path, pre_buffer=False) as file:
                yield from file.iter_batches(batch_size=_rows_per_batch(schema, size / max(count, 1)))
        except (pa.ArrowException, OSError) as problem:
            raise DataError(f"{path}: damaged Parquet file: {problem}") from None

    return Columnar(schema, (), file_digest(path), read, count)


def open_arrow(path: Path) -> Columnar:
    """An Arrow or Feather file, in the file or the stream format.

    Raises:
        DataError: If it is damaged, or Feather version 1.
    """
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"FEA1"):
        raise DataError(f"{path}: Feather version 1; write it again with version 2, or as Parquet")

    def read() -> Iterator[pa.RecordBatch]:
        try:
            with pa.OSFile(str(path)) as source:
                yield from _arrow_batches(source, head)
        except (pa.ArrowException, OSError) as problem:
            raise DataError(f"{path}: damaged Arrow file: {problem}") from None

    try:
        with pa.OSFile(str(path)) as source:
            opened = pa.ipc.open_file(source) if head.startswith(b"ARROW1") else pa.ipc.open_stream(source)
            schema = opened.schema
    except (pa.ArrowException, OSError) as problem:
        raise DataError(f"{path}: not a readable Arrow file: {problem}") from None
    return Columnar(schema, (), file_digest(path), read)


def _arrow_batches(source: Any, head: bytes) -> Iterator[pa.RecordBatch]:
    if head.startswith(b"ARROW1"):
        reader = pa.ipc.open_file(source)
        batches: Iterator[pa.RecordBatch] = (reader.get_batch(at) for at in range(reader.num_record_batches))
    else:
        batches = iter(pa.ipc.open_stream(source))
    for batch in batches:
        size = _rows_per_batch(batch.schema)
        for start in range(0, batch.num_rows, size):
            yield batch.slice(start, size)


def is_dataset_folder(folder: Path) -> bool:
    """Whether `datasets.Dataset.save_to_disk` (or `DatasetDict`) wrote this folder."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def open_dataset_folder(folder: Path) -> Columnar:
    """A folder that `datasets.Dataset.save_to_disk` wrote; class numbers become class names.

    Raises:
        DataError: If it is damaged, or holds several splits.
    """
    try:
        if (folder / "dataset_dict.json").is_file():
            splits = json.loads((folder / "dataset_dict.json").read_text("utf-8"))["splits"]
            named = ", ".join(f"{folder.name}/{split}" for split in splits)
            raise DataError(f"{folder}: holds several splits; name one: {named}")
        state = json.loads((folder / "state.json").read_text("utf-8"))
        info = json.loads((folder / "dataset_info.json").read_text("utf-8"))
        files = [folder / Path(entry["filename"]).name for entry in state["_data_files"]]
        parts = [open_arrow(file) for file in files]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise DataError(f"{folder}: damaged `datasets` folder: {problem}") from None
    if not parts:
        raise DataError(f"{folder}: the dataset has no rows")
    names = {
        column: feature["names"]
        for column, feature in (info.get("features") or {}).items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
    }
    digest = hashlib.blake2b("".join(part.digest for part in parts).encode(), digest_size=16).hexdigest()

    def read() -> Iterator[pa.RecordBatch]:
        for part in parts:
            for batch in part.batches():
                yield _with_class_names(batch, names)

    return Columnar(_with_class_names(parts[0].schema.empty_table(), names).schema, (), digest, read)


def open_hub(source: str) -> Columnar:
    """A dataset of the Hugging Face hub: `hf://name[:config][#split]`; the split is "train" unless named.

    Raises:
        DataError: If the name is malformed, the hub cannot be reached, or the dataset cannot be loaded.
        MissingExtraError: If `datasets` is not installed.
    """
    match = HUB.fullmatch(source)
    if match is None:
        raise DataError(f"{source}: write hf://name, hf://name:config or hf://name:config#split")
    try:
        import datasets
    except ImportError:
        raise MissingExtraError(f"{source}: needs the package datasets: pip install 'automm[train]'") from None
    _reach_hub(source)
    try:
        data = datasets.load_dataset(match["name"], match["config"], split=match["split"] or "train")
    except Exception as problem:  # the hub client raises many unrelated types
        raise DataError(f"{source}: cannot be loaded: {type(problem).__name__}: {problem}") from problem
    names = {column: feature.names for column, feature in data.features.items() if hasattr(feature, "names")}
    arrow = data.with_format("arrow")

    def read() -> Iterator[pa.RecordBatch]:
        for table in arrow.iter(batch_size=256):
            for batch in table.to_batches():
                yield _with_class_names(batch, names)

    schema = _with_class_names(arrow[:0], names).schema
    return Columnar(schema, (f"{source}: fingerprint {data._fingerprint}",), str(data._fingerprint), read)


def _reach_hub(source: str) -> None:
    """The hub's client waits most of a minute without a network; one short request tells at once."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return  # answers from its own cache, or fails at once
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if not endpoint.startswith(("https://", "http://")):
        raise DataError(f"{source}: HF_ENDPOINT is not a web address: {endpoint}")
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=5):  # noqa: S310
            pass
    except urllib.error.HTTPError:
        return  # it answers
    except OSError as problem:
        raise DataError(
            f"{source}: the hub cannot be reached ({problem}); download the data and name the file or folder instead"
        ) from None


def _with_class_names(table: Any, names: dict[str, list[str]]) -> Any:
    """Replaces class numbers by class names; -1 stands for no label."""
    for column, classes in names.items():
        at = table.schema.get_field_index(column)
        numbers = table.column(at)
        known = pc.if_else(pc.greater_equal(numbers, 0), numbers, None)
        table = table.set_column(at, column, pc.take(pa.array(classes, pa.string()), known))
    return table


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type in which a table holds a source's type: one of few, all of which read as ordinary Python values."""
    types = pa.types
    if types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if types.is_null(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_time(kind):
        return pa.string()
    if types.is_decimal(kind) or types.is_floating(kind):
        return pa.float64()
    if types.is_uint64(kind):
        return kind
    if types.is_integer(kind):
        return pa.int64()
    if types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if types.is_date(kind):
        return pa.date32()
    if types.is_large_binary(kind) or types.is_binary_view(kind) or types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type))
    return kind


def plain(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """A source's column in the table's type, with every spelling of null (see `is_null`) as null.

    Raises:
        DataError: If a value does not fit the type.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if array.type != kind:
        # Nanoseconds are cut to microseconds; everything else must fit.
        array = pc.cast(array, kind, safe=not pa.types.is_timestamp(kind))
    if pa.types.is_string(kind):
        short = pc.less_equal(pc.utf8_length(array), _LONGEST_NULL)
        spelled = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(array)), _NULLS)
        return pc.if_else(pc.and_(short, spelled), None, array)
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_nan(array), None, array)
    return array


def unify(types: list[pa.DataType]) -> pa.DataType:
    """The type for a column that several files hold in different types; text if nothing else fits."""
    first = types[0]
    if all(kind == first for kind in types) or is_media(first):
        return first
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in types):
        return pa.float64() if any(pa.types.is_floating(kind) for kind in types) else pa.int64()
    return pa.string()
