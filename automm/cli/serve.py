"""`automm serve`: packages behind HTTP."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from automm.errors import MissingExtraError, StorageError, UsageError

NEEDED = ("starlette", "uvicorn", "httptools", "orjson", "prometheus_client", "python_multipart")


@click.command("serve")
@click.argument("packages", nargs=-1, required=True, metavar="[NAME=]PACKAGE...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any free one.")
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes.")
@click.option("--threads", type=click.IntRange(1), help="Threads of a run of the model; by default cores / workers.")
@click.option(
    "--max-batch", type=click.IntRange(1), default=64, show_default=True, help="Rows of a run; 1: no batching."
)
@click.option(
    "--batch-wait",
    type=click.FloatRange(0, 1000),
    default=0.0,
    show_default=True,
    help="Milliseconds that an idle model waits for more rows.",
)
@click.option("--parallel", type=click.IntRange(1, 32), default=1, show_default=True, help="Runs of a model at a time.")
@click.option(
    "--queue", type=click.IntRange(1), default=512, show_default=True, help="Rows that wait; further requests get 429."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds until a request gets 504.",
)
@click.option(
    "--max-body",
    type=click.FloatRange(0, 4096, min_open=True),
    default=32.0,
    show_default=True,
    help="MiB of a request.",
)
@click.option("--max-rows", type=click.IntRange(1), default=1000, show_default=True, help="Rows of a request.")
@click.option(
    "--max-characters", type=click.IntRange(1), default=1_000_000, show_default=True, help="Characters of a text cell."
)
@click.option("--max-connections", type=click.IntRange(1), default=2048, show_default=True, help="Of a worker.")
@click.option(
    "--head-seconds",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Time for a request's head to arrive.",
)
@click.option(
    "--body-seconds",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Time for its body, plus one second for every 64 KiB.",
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help="Accepted API keys, one per line. Without it: the variable AUTOMM_API_KEY, if set.",
)
@click.option("--allow-missing", is_flag=True, help="Take columns that a request leaves out for missing cells.")
@click.option("--examples", is_flag=True, help="Show golden rows, which are training rows, as examples on the page.")
@click.option("--capture", type=click.Path(path_type=Path, file_okay=False), help="Folder in which requests are kept.")
@click.option(
    "--capture-size", type=click.FloatRange(0, min_open=True), default=100.0, show_default=True, help="Most MiB in it."
)
@click.option(
    "--poll",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="Seconds between looks for new versions; 0: never.",
)
@click.option(
    "--drain",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    help="Seconds between SIGTERM and closing the port.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="info: a line per request.",
)
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Local plugin file whose operations a package needs. The file is run.",
)
def command(
    packages: tuple[str, ...],
    host: str,
    port: int,
    workers: int,
    threads: int | None,
    max_batch: int,
    batch_wait: float,
    parallel: int,
    queue: int,
    timeout: float,
    max_body: float,
    max_rows: int,
    max_characters: int,
    max_connections: int,
    head_seconds: float,
    body_seconds: float,
    api_key_file: Path | None,
    allow_missing: bool,
    examples: bool,
    capture: Path | None,
    capture_size: float,
    poll: float,
    drain: float,
    log_level: str,
    plugins: tuple[Path, ...],
) -> int:
    """Serves one or more PACKAGEs over HTTP: a page to try them, /predict, and the Open Inference Protocol.

    A PACKAGE is a package folder, or a folder of versions: subfolders that hold a package each. New versions are taken
    over while the server runs. NAME= says under which name it is served; by default the package's own.
    """
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise MissingExtraError(f"automm serve needs {', '.join(absent)}: pip install 'automm[serve]'")
    from automm.serve.access import read_keys
    from automm.serve.folders import sources
    from automm.serve.server import serve
    from automm.serve.settings import Batching, Limits, Settings

    keys = read_keys(api_key_file)
    body = int(max_body * 2**20)
    if queue < max_batch:
        raise UsageError(f"--queue {queue} is smaller than --max-batch {max_batch}; a full batch must fit")
    if capture is not None:
        try:
            capture.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as problem:
            raise StorageError(
                f"{capture}: the folder for captured requests cannot be made: {problem.strerror}"
            ) from None
    limits = Limits(
        body=body,
        bodies=8 * body,
        rows=max_rows,
        characters=max_characters,
        connections=max_connections,
        head_seconds=head_seconds,
        body_seconds=body_seconds,
    )
    settings = Settings(
        sources(list(packages)),
        host=host,
        port=port,
        limits=limits,
        batching=Batching(max_batch, batch_wait / 1000, queue, parallel),
        timeout=timeout,
        threads=threads,
        workers=workers,
        poll=poll,
        drain=drain,
        keys=keys,
        capture=capture,
        capture_bytes=int(capture_size * 2**20),
        allow_missing=allow_missing,
        examples=examples,
        plugins=plugins,
        log_level=log_level,
    )
    return serve(settings)
