"""Delimited text (CSV, TSV, TXT): encoding, delimiter and quoting are found out; broken lines are named."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from automm.core.cells import parse_number
from automm.errors import DataError

BLOCK = 2**20
SAMPLE = 2**16
ROWS_PER_BATCH = 8192
CHARS_PER_BATCH = 8 * 2**20
DELIMITERS = ",;\t|"
QUOTES = ('"', None, "'")
NO_DELIMITER = "\x1f"
SHOWN = 5

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOREIGN = (
    (b"PK\x03\x04", "a ZIP or Excel file; save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file; save the sheet as CSV"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"SQLite format 3", "an SQLite database; export the table as CSV"),
)


@dataclass(frozen=True)
class TextFile:
    """A text file and how its bytes are read.

    Attributes:
        path: The file.
        digest: Hash of its bytes.
        encoding: Codec name.
        errors: What happens to undecodable bytes: "strict" or "replace".
        notes: What was guessed.
        lines: Number of line feeds.
    """

    path: Path
    digest: str
    encoding: str
    errors: str = "strict"
    notes: tuple[str, ...] = ()
    lines: int = 0

    def open(self) -> TextIO:
        """The file as text; line ends are left as they are."""
        return self.path.open(encoding=self.encoding, errors=self.errors, newline="")


def scan_text(path: Path) -> TextFile:
    """Reads a file once: hashes it and finds its encoding.

    A byte order mark decides; then UTF-8 if the whole file is valid; then UTF-16 by its zero bytes, GB18030 if what it
    decodes to is common Chinese, and Windows-1252 (Western European).

    Raises:
        DataError: If the file is empty or not text.
    """
    digest = hashlib.blake2b(digest_size=16)
    decoder = codecs.getincrementaldecoder("utf-8")()
    head, foreign, valid, lines = b"", bytearray(), True, 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            head = head or block[: 2**16]
            digest.update(block)
            lines += block.count(b"\n")
            if valid:
                try:
                    decoder.decode(block)
                except UnicodeDecodeError:
                    valid = False
            if len(foreign) < 4 * BLOCK and not block.isascii():
                foreign += block
    if valid:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            valid = False
    if not head.strip():
        raise DataError(f"{path}: the file is empty")
    encoding, errors, notes = _encoding(path, head, bytes(foreign), valid)
    return TextFile(path, digest.hexdigest(), encoding, errors, notes, lines)


def _encoding(path: Path, head: bytes, foreign: bytes, valid: bool) -> tuple[str, str, tuple[str, ...]]:
    for mark, kind in _FOREIGN:
        if head.startswith(mark):
            raise DataError(f"{path}: not a text file; it looks like {kind}")
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name, "strict", ()
    even, odd = head[::2].count(0) / len(head), head[1::2].count(0) / len(head)
    if max(even, odd) > 0.2 and min(even, odd) < 0.05:
        name = "utf-16-be" if even > odd else "utf-16-le"
        return name, "strict", (f"{path.name}: read as {name}",)
    control = sum(head.count(byte) for byte in (*range(9), *range(14, 27), *range(28, 32)))
    if control > 0.005 * len(head):
        raise DataError(f"{path}: not a text file (it holds binary data)")
    if valid:
        return "utf-8", "strict", ()
    text = foreign.decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    letters = len(text) - sum(map(str.isascii, text))
    if broken <= 0.1 * letters:
        return "utf-8", "replace", (f"{path.name}: UTF-8 with broken bytes; they read as \ufffd",)
    if _is_chinese(foreign):
        return "gb18030", "strict", (f"{path.name}: read as GB18030 (Chinese)",)
    name = "cp1252" if not any(byte in foreign for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)) else "latin-1"
    hint = "save the file as UTF-8 if letters look wrong"
    return name, "replace", (f"{path.name}: not UTF-8, read as {name} (Western European); {hint}",)


def _is_chinese(data: bytes) -> bool:
    """Whether bytes are GB18030: they decode, and nine in ten characters are punctuation or common Chinese.

    The common characters (level 1 of GB 2312) have lead bytes B0 to D7; accented Latin or Cyrillic bytes that decode by
    accident give rare characters.
    """
    decoder = codecs.getincrementaldecoder("gb18030")()
    try:
        text = decoder.decode(data)
    except UnicodeDecodeError:
        return False
    wide = [char.encode("gb18030") for char in itertools.islice((c for c in text if not c.isascii()), 20_000)]
    common = sum(
        len(code) == 2 and code[1] >= 0xA1 and (0xA1 <= code[0] <= 0xA3 or 0xB0 <= code[0] <= 0xD7) for code in wide
    )
    return bool(wide) and common >= 0.9 * len(wide)


@dataclass(frozen=True)
class Dialect:
    """How a delimited file is cut into cells.

    Attributes:
        delimiter: Between cells.
        quote: Around cells that hold the delimiter; None: quotes are ordinary characters.
        skip: Lines before the header.
    """

    delimiter: str
    quote: str | None
    skip: int = 0

    def reader(self, lines: Any, strict: bool = False) -> Any:
        """A `csv.reader` over lines."""
        csv.field_size_limit(2**31 - 1)
        if self.quote is None:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote, strict=strict)


def find_dialect(sample: str, complete: bool, suffix: str) -> Dialect:
    """The delimiter and quoting that cut most sample lines into as many cells as the header has.

    Args:
        sample: The beginning of the file.
        complete: Whether that is the whole file.
        suffix: File ending; a ".txt" needs clear evidence before it is cut at all.
    """
    first = sample.split("\n", 1)[0].strip().lower()
    if first.startswith("sep=") and len(first) == 5:
        return Dialect(first[4], '"', skip=1)  # Excel's own hint
    if not complete:
        sample = sample[: sample.rfind("\n") + 1] or sample
    best: tuple[tuple[float, int, bool, int, int], Dialect] | None = None
    for (prefer, quote), (at, delimiter) in itertools.product(enumerate(QUOTES), enumerate(DELIMITERS)):
        if prefer and best is not None and best[0][0] == 1.0 and best[0][2]:
            break  # the usual quotes fit every line
        dialect = Dialect(delimiter, quote)
        records = (len(row) for row in dialect.reader(io.StringIO(sample, newline="")) if row)
        if (width := next(records, 0)) < 2:
            continue
        widths = list(records)
        widths = widths if complete or len(widths) < 2 else widths[:-1]
        share = (1 + widths.count(width)) / (1 + len(widths))
        # Tab-separated files often hold bare quotes; if they don't pair up properly, they are ordinary characters.
        proper = delimiter != "\t" or _is_proper(dialect, sample, complete)
        score = (round(share, 2), width, proper, -prefer, -at)
        if best is None or score > best[0]:
            best = (score, dialect)
    if best is None or (suffix == ".txt" and best[0][0] < 0.9):
        return Dialect(NO_DELIMITER, '"')
    return best[1]


def _is_proper(dialect: Dialect, sample: str, complete: bool) -> bool:
    """Whether nothing but a delimiter follows a closing quote, and every quote is closed."""
    try:
        for _ in dialect.reader(io.StringIO(sample, newline=""), strict=True):
            pass
    except csv.Error as problem:
        return not complete and "end of data" in str(problem)
    return True


def name_columns(header: list[str], where: str) -> tuple[list[str], list[str]]:
    """Header cells → unique, non-empty column names, and remarks on what was changed."""
    names: list[str] = []
    notes: list[str] = []
    taken = {cell.strip() for cell in header}
    for at, cell in enumerate(header, 1):
        name = cell.strip()
        if not name:
            name = f"column_{at}"
            notes.append(f"{where}: column {at} has no name; it is called {name!r}")
        if name in names:
            again = next(f"{name}_{n}" for n in itertools.count(2) if f"{name}_{n}" not in taken)
            notes.append(f"{where}: two columns are called {name!r}; column {at} is now {again!r}")
            name = again
        taken.add(name)
        names.append(name)
    numbers = [parse_number(cell) for cell in header]
    if numbers and all(number is not None and not number.is_integer() for number in numbers):
        notes.append(f"{where}: the first line holds only numbers; is the header missing?")
    return names, notes


@dataclass
class Delimited:
    """A delimited file, ready to be read. All cells are strings.

    Attributes:
        schema: Its columns.
        notes: What was guessed or repaired.
        digest: Hash of its bytes.
    """

    text: TextFile
    dialect: Dialect
    schema: pa.Schema
    notes: tuple[str, ...]
    digest: str = field(default="")

    @property
    def count(self) -> int | None:
        """The lines after the header; fewer rows where cells hold line feeds."""
        return max(self.text.lines - 1, 0)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows.

        Raises:
            DataError: If lines have too many or too few cells, or a quote is never closed.
        """
        width = len(self.schema)
        ragged: list[str] = []
        with self.text.open() as file:
            lines = _Lines(file)
            reader = self.dialect.reader(lines)
            rows: list[list[str]] = []
            last: list[str] = []
            end, header = 0, True
            try:
                for row in reader:
                    start, end = end + 1, reader.line_num
                    last, lines.record = lines.record, []
                    if not row or start <= self.dialect.skip:
                        continue
                    if header:
                        header = False
                        continue
                    if len(row) != width and not (len(row) > width and not any(row[width:])):
                        ragged.append(_ragged(start, end, len(row), width))
                        if len(ragged) == SHOWN:
                            break
                    rows.append(row[:width])
                    if len(rows) == ROWS_PER_BATCH or lines.chars > CHARS_PER_BATCH:
                        if not ragged:
                            yield self._batch(rows)
                        rows, lines.chars = [], 0
            except UnicodeDecodeError as problem:
                raise DataError(
                    f"{self.text.path}: line {end + 1} or after: not {self.text.encoding}: {problem.reason}"
                ) from None
            if ragged:
                more = " (and perhaps more)" if len(ragged) == SHOWN else ""
                raise DataError(
                    f"{self.text.path}: lines that do not fit the header of {width} columns{more}:\n  "
                    + "\n  ".join(ragged)
                )
            self._check_closed(last, start=end - len(last) + 1)
            if rows:
                yield self._batch(rows)

    def _batch(self, rows: list[list[str]]) -> pa.RecordBatch:
        return pa.record_batch(
            [pa.array(column, pa.string()) for column in zip(*rows, strict=True)], schema=self.schema
        )

    def _check_closed(self, record: list[str], start: int) -> None:
        """A quote that is never closed swallows the rest of the file into one cell."""
        if len(record) < 2:
            return
        try:
            list(self.dialect.reader(record, strict=True))
        except csv.Error as problem:
            if "end of data" in str(problem):
                raise DataError(f"{self.text.path}: line {start}: a quote is opened and never closed") from None


class _Lines:
    """Iterates over lines, counting characters and keeping the lines of the current record."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.chars = 0
        self.record: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.chars += len(line)
            self.record.append(line)
            yield line


def _ragged(start: int, end: int, found: int, width: int) -> str:
    cells = f"line {start}: {found} cell{'s' * (found != 1)} instead of {width}"
    return cells + (f" (runs to line {end}: is a quote left open?)" if end > start else "")


def open_delimited(path: Path) -> Delimited:
    """Finds out how a delimited file is written.

    Raises:
        DataError: If it is empty or not text.
    """
    text = scan_text(path)
    try:
        with text.open() as file:
            sample = file.read(SAMPLE)
            complete = not file.read(1)
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: not {text.encoding}: {problem.reason}") from None
    if not sample.strip():
        raise DataError(f"{path}: the file is empty")
    dialect = find_dialect(sample, complete, path.suffix.lower())
    reader = dialect.reader(io.StringIO(sample, newline=""))
    header = next(row for at, row in enumerate(reader) if row and at >= dialect.skip)
    names, notes = name_columns(header, path.name)
    schema = pa.schema([(name, pa.string()) for name in names])
    return Delimited(text, dialect, schema, (*text.notes, *notes), text.digest)
