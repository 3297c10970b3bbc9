"""`automm predict`: a package and a table in, one line per row out."""

from __future__ import annotations

from pathlib import Path

import click


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
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
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
    quiet: bool,
    plugins: tuple[Path, ...],
) -> None:
    """Predicts every row of TABLE with PACKAGE.

    The result has one line per row, in the table's order: the row's number from 1, the prediction, and, if the row
    could not be used, the reason in the column "error". The table may be larger than memory; the result appears under
    its name when it is complete.
    """
    from automm.bulk import predict_file
    from automm.data.results import check_ending
    from automm.runtime import ops
    from automm.runtime.predictor import load

    check_ending(out)
    for plugin in plugins:
        ops.add_file(plugin)
    predictor = load(package, threads=threads)
    counts = predict_file(
        predictor, table, out, allow_missing=allow_missing, batch_size=batch_size, progress=not quiet
    )  # fmt: skip
    note = f', {counts.refused:,} refused (see the column "error")' if counts.refused else ", none refused"
    click.echo(f"{counts.rows:,} rows: {counts.rows - counts.refused:,} predicted{note}; results in {out}", err=True)
