"""`automm predict`: a package and a table in, one line per row out."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from automm.cli.results import check_ending, open_results
from automm.errors import DataError, UsageError


@click.command("predict")
@click.argument("package", type=click.Path(path_type=Path))
@click.argument("table", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Result file; its ending says the format: .csv, .jsonl or .parquet.",
)
@click.option("--allow-missing", is_flag=True, help="Take columns that the table does not have for missing cells.")
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True, help="Rows in memory at a time.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the model; by default one per core.")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Local plugin file whose operations the package needs. The file is run.",
)
def command(
    package: Path,
    table: Path,
    out: Path,
    allow_missing: bool,
    batch_size: int,
    threads: int | None,
    plugins: tuple[Path, ...],
) -> None:
    """Predicts every row of TABLE with PACKAGE.

    The result has one line per row, in the table's order: the row's number from 1, the prediction, and, if the row
    could not be used, the reason in the column "error".
    """
    from automm.data.sources import open_table
    from automm.runtime import ops
    from automm.runtime.predictor import load, missing_columns

    check_ending(out)
    if not table.exists():
        raise DataError(f"{table}: no such file")
    if out.exists() and out.samefile(table):
        raise UsageError(f"{out} is the input table; choose another name for the results")
    for plugin in plugins:
        ops.add_file(plugin)
    predictor = load(package, threads=threads)
    results = predictor.package.decoder.columns()
    rows = refused = 0
    with tempfile.TemporaryDirectory(prefix="automm-predict-") as cache:
        source = open_table([table.name], table.resolve().parent, Path(cache))
        absent = [name for name in predictor.columns if name not in source.columns]
        if absent and not allow_missing:
            raise DataError(f"{table}: {missing_columns(absent, source.columns)}")
        there = [name for name in predictor.columns if name in source.columns]
        with open_results(out, {"row": "integer", **results, "error": "string"}) as file:
            chunks = source.chunks(there, size=batch_size)
            for numbers, found in predictor.predict_chunks(chunks, folder=source.folder, allow_missing=allow_missing):
                errors = [found.refused.get(at) for at in range(len(found))]
                file.write({"row": [int(number) + 1 for number in numbers], **found.columns, "error": errors})
                rows += len(found)
                refused += len(found.refused)
    note = f', {refused:,} refused (see the column "error")' if refused else ", none refused"
    click.echo(f"{rows:,} rows: {rows - refused:,} predicted{note}; results in {out}", err=True)
