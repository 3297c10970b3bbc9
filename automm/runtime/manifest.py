"""The manifest `automm.json`: what a package is made of. See docs/package.md."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import Field

from automm.core.arrays import ArraySpec
from automm.errors import PackageError
from automm.runtime import strictjson

FILE = "automm.json"
SIGNATURE = "model.sig"
"""The optional signature. Like the manifest itself it stands in the folder and not in the list of files."""
FORMAT_VERSION = 1
RESUME = "resume/"
"""Folder of what `automm update` starts from; predicting never reads it."""
LARGEST = 16 * 2**20
ROW_BYTES = 2**30
"""Most bytes that the fixed sizes of one array may come to, per row."""
KINDS = frozenset(
    {".json", ".onnx", ".npz", ".safetensors", ".yaml", ".yml", ".md", ".txt", ".html", ".csv", ".jsonl", ""}
)
"""Endings of the files that a package may list; media of stored rows, in a folder of that name, may have others."""
CODE = frozenset(
    {".py", ".pyc", ".pyd", ".pyw", ".so", ".dll", ".dylib", ".exe", ".bat", ".cmd", ".ps1", ".sh", ".js", ".jar",
     ".pkl", ".pickle", ".joblib", ".pt", ".pth", ".whl", ".egg"}
)  # fmt: skip
"""Endings that nothing in a package has: programs, and formats that run code when they are read."""
MEDIA = "media"


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    plain = "/".join(parts) == path and "\\" not in path and ":" not in path and "\0" not in path
    if not parts or path.startswith("/") or ".." in parts or not plain:
        raise ValueError(f"{path!r} is not a plain path inside the package")
    return path


def _listable(path: str) -> str:
    if path in (FILE, SIGNATURE):
        raise ValueError(f"{path!r} is never listed: it vouches for the list")
    ending, folders = PurePosixPath(path).suffix.lower(), PurePosixPath(path).parts[:-1]
    if ending in CODE or (ending not in KINDS and MEDIA not in folders):
        raise ValueError(f"{path!r}: packages hold no {ending} files")
    return path


InnerPath = Annotated[str, pydantic.AfterValidator(_inside)]
ListedPath = Annotated[InnerPath, pydantic.AfterValidator(_listable)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Slug = Annotated[str, Field(pattern=r"^[a-z][0-9a-z_]*$")]


class OwnerPart(_Part):
    """The distribution that offered a component when the package was made."""

    distribution: str
    version: str


class ArrayPart(_Part):
    """One array of a processor, without its batch axis."""

    dtype: Literal[
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    ]
    shape: tuple[Annotated[int, Field(ge=0)] | str, ...]
    pad: float

    @pydantic.model_validator(mode="after")
    def _small(self) -> ArrayPart:
        sizes = [size for size in self.shape if isinstance(size, int)]
        if math.prod(sizes) * np.dtype(self.dtype).itemsize > ROW_BYTES:
            raise ValueError(
                f"an array of {self.dtype} {list(self.shape)} per row is over the limit of {ROW_BYTES:,} bytes"
            )
        return self

    def spec(self) -> ArraySpec:
        """The same as processors state it."""
        return ArraySpec(self.dtype, self.shape, self.pad)


class ProcessorPart(_Part):
    """The operation that turns cells into arrays.

    Attributes:
        state: JSON file with what it learned.
        arrays: NPZ file with the arrays in that state, if there are any.
    """

    op: str
    version: int
    owner: OwnerPart
    config: dict[str, Any]
    state: InnerPath
    arrays: InnerPath | None


class InputPart(_Part):
    """One input of the model.

    Attributes:
        slug: Prefix of its arrays in the graph.
        optional: Whether it was ever missing in the training rows.
        arrays: Array name → specification.
        limits: Cells above are refused: name → bound.
    """

    name: str
    slug: Slug
    modality: str
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    types: dict[str, str]
    optional: bool
    processor: ProcessorPart
    arrays: dict[str, ArrayPart]
    limits: dict[str, Annotated[float, Field(gt=0)]]


class LimitsPart(_Part):
    """What bounds one run of the model, whatever its inputs.

    Attributes:
        rows: Most rows that become arrays at a time. Longer tables are predicted in pieces, longer requests refused.
    """

    rows: Annotated[int, Field(ge=1)] = 1024


class GraphPart(_Part):
    """An ONNX graph.

    Attributes:
        inputs: Names of the arrays it takes, `slug.array`; a subset of what the processors give.
        outputs: Names of its answers, with the prefix `out_`.
        opset: Version of the ONNX operator set.
    """

    file: InnerPath
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int


class DecoderPart(_Part):
    """The operation that turns answers into result columns."""

    op: str
    version: int
    owner: OwnerPart
    config: dict[str, Any]


class TaskPart(_Part):
    """The task, for measuring the package on labelled rows."""

    name: str
    owner: OwnerPart
    config: dict[str, Any]
    state: dict[str, Any]


class TargetPart(_Part):
    """The target: its columns, and what the head answers."""

    columns: tuple[str, ...]
    kind: str
    size: int
    names: tuple[str, ...]


class FilePart(_Part):
    """Digest and size of a file."""

    sha256: Digest
    bytes: Annotated[int, Field(ge=0)]


class LineagePart(_Part):
    """Where the package comes from; digests are SHA-256.

    Attributes:
        parent: Digest of the manifest of the package that this one continues.
    """

    parent: Digest | None
    recipe: Digest
    plan: Digest
    data: str
    seed: int


class Tolerance(_Part):
    """How far a number may be from the expected one: `absolute + relative · |expected|`."""

    absolute: Annotated[float, Field(ge=0)] = 1e-3
    relative: Annotated[float, Field(ge=0)] = 1e-3


class MetricsPart(_Part):
    """Metrics by name on validation and test rows."""

    valid: dict[str, float]
    test: dict[str, float]


class GoldenPart(_Part):
    """The rows that are run again whenever the package is loaded.

    Attributes:
        inputs: JSON file with the raw rows.
        arrays: NPZ file with what the processors made of them.
        answers: NPZ file with what the graph answered.
        media: Files that the raw rows point to.
    """

    rows: Annotated[int, Field(ge=1)]
    inputs: InnerPath
    arrays: InnerPath
    answers: InnerPath
    media: tuple[InnerPath, ...]


class Manifest(_Part):
    """The whole manifest; attributes are documented in docs/package.md."""

    format: Literal["automm"]
    format_version: Literal[1]
    name: str
    created: str
    automm: str
    task: TaskPart
    target: TargetPart
    inputs: Annotated[tuple[InputPart, ...], Field(min_length=1)]
    limits: LimitsPart = LimitsPart()
    graphs: dict[str, GraphPart]
    decoder: DecoderPart
    metrics: MetricsPart
    tolerance: Tolerance
    golden: GoldenPart | None
    lineage: LineagePart
    files: dict[ListedPath, FilePart]

    @pydantic.model_validator(mode="after")
    def _coherent(self) -> Manifest:
        if "main" not in self.graphs:
            raise ValueError("graphs: there is no 'main' graph")
        slugs = [part.slug for part in self.inputs]
        if len(set(slugs)) != len(slugs):
            raise ValueError(f"inputs: slugs repeat: {slugs}")
        for path in self.opened():
            if path not in self.files:
                raise ValueError(f"{path!r} is used but not listed in files")
        given = {f"{part.slug}.{array}" for part in self.inputs for array in (*part.arrays, "present")}
        missing = sorted(set(self.graphs["main"].inputs) - given)
        if missing:
            raise ValueError(f"graphs.main takes {missing}, which no input gives")
        return self

    def opened(self) -> list[str]:
        """Every file that loading the package opens."""
        paths = [graph.file for graph in self.graphs.values()]
        for part in self.inputs:
            paths += [part.processor.state, *([part.processor.arrays] if part.processor.arrays else [])]
        if self.golden is not None:
            paths += [self.golden.inputs, self.golden.arrays, self.golden.answers, *self.golden.media]
        return paths


def parse(data: bytes) -> Manifest:
    """Reads a manifest.

    Raises:
        PackageError: Saying what is wrong with it.
    """
    value = strictjson.loads(data, FILE, most=LARGEST)
    if not isinstance(value, dict) or value.get("format") != "automm":
        raise PackageError(f'{FILE}: this is not an automm package ("format" is not "automm")')
    version = value.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise PackageError(
            f"{FILE}: format version {version} is newer than this automm reads ({FORMAT_VERSION}); upgrade automm"
        )
    try:
        return Manifest.model_validate_json(data)
    except pydantic.ValidationError as problem:
        lines = [f"{'.'.join(map(str, error['loc'])) or 'manifest'}: {error['msg']}" for error in problem.errors()[:5]]
        raise PackageError(f"{FILE}: " + "; ".join(lines)) from None
