"""`automm launch`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automm.errors import StorageError, UsageError

if TYPE_CHECKING:
    from automm.recipe.model import Recipe


@click.group()
def command() -> None:
    """Write what a cluster needs to fit RECIPE: a batch script, or a manifest. Submits nothing."""


def _shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every cluster."""
    options = (
        click.argument("recipe", type=click.Path(path_type=Path)),
        click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Number of nodes."),
        click.option(
            "--nproc-per-node", type=click.IntRange(1), help="Processes per node; default: one per GPU, or one."
        ),
        click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="GPUs per node."),
        click.option("--cpus", type=click.IntRange(1), help="Cores per node; default: as the cluster says."),
        click.option("--time", "limit", help="Ends the job (2h, 90m); default: the recipe's time and a quarter more."),
        click.option("--out", type=click.Path(path_type=Path), help="Run folder; default: runs/<recipe name>."),
        click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; - for standard output."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@command.command()
@_shared
@click.option("--partition", help="Slurm's partition.")
@click.option("--account", help="The account that pays.")
def slurm(
    recipe: Path, nodes: int, nproc_per_node: int | None, gpus: int, cpus: int | None, limit: str | None,
    out: Path | None, output: Path | None, partition: str | None, account: str | None,
) -> None:  # fmt: skip
    """Write an sbatch script. Recipe, data and run folder must be on a disk that all nodes see."""
    from automm.launch.job import Job, job_name
    from automm.launch.slurm import slurm_script

    loaded = _loaded(recipe)
    target = output or Path(f"{loaded.name}.sbatch")
    job = Job(
        job_name(loaded.name), loaded.path.resolve(), (out or Path("runs") / loaded.name).absolute(),
        nodes, nproc_per_node or gpus or 1, gpus, _limit(limit, loaded),
    )  # fmt: skip
    named = f"{loaded.name}.sbatch" if str(target) == "-" else target.name
    script = slurm_script(job, python=sys.executable, partition=partition, account=account, cpus=cpus, file=named)
    _write(target, script, f"sbatch {target}")


@command.command()
@_shared
@click.option("--image", required=True, help="Container image in which automm is installed.")
@click.option("--claim", default="automm", show_default=True, help="PersistentVolumeClaim with recipe and data.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(), help="The recipe's folder on that volume.")
@click.option("--runtime", help="A ClusterTrainingRuntime; default: torch-distributed.")
@click.option("--namespace", help="The namespace; default: that of kubectl.")
@click.option("--memory", help="Memory per node, such as 16Gi.")
def kubernetes(
    recipe: Path, nodes: int, nproc_per_node: int | None, gpus: int, cpus: int | None, limit: str | None,
    out: Path | None, output: Path | None, image: str, claim: str, folder: Path, runtime: str | None,
    namespace: str | None, memory: str | None,
) -> None:  # fmt: skip
    """Write a TrainJob for Kubeflow Trainer. Recipe, data and run folder are on one volume that all nodes mount."""
    import yaml

    from automm.launch.job import Job, job_name
    from automm.launch.kubernetes import RUNTIME, train_job

    loaded = _loaded(recipe)
    if any(path is not None and (path.is_absolute() or ".." in path.parts) for path in (folder, out)):
        raise UsageError("--folder and --out are folders on the volume: relative paths without ..")
    target = output or Path(f"{loaded.name}.trainjob.yaml")
    job = Job(
        job_name(loaded.name), folder / recipe.name, out or Path("runs") / loaded.name,
        nodes, nproc_per_node or gpus or 1, gpus, _limit(limit, loaded),
    )  # fmt: skip
    manifest = train_job(
        job, image=image, claim=claim, namespace=namespace, runtime=runtime or RUNTIME, cpus=cpus, memory=memory
    )

    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as they are."""

    Dumper.add_representer(
        str, lambda dumper, text: dumper.represent_scalar(
            "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
        ),
    )  # fmt: skip
    text = yaml.dump(manifest, Dumper=Dumper, sort_keys=False, width=120)
    _write(
        target, f"# automm fit {recipe.name}: kubectl create -f {target.name}\n{text}", f"kubectl create -f {target}"
    )


def _loaded(recipe: Path) -> Recipe:
    """The recipe, checked; its data need not be here."""
    from automm.recipe.parse import load_with_plugins

    return load_with_plugins(recipe)[0]


def _limit(text: str | None, recipe: Recipe) -> int | None:
    """Seconds after which the cluster ends the job."""
    from automm.launch.job import enough
    from automm.recipe.keys_run import duration

    if text is None:
        return enough(recipe.search.time if recipe.search else None)
    seconds = duration(text)
    if not seconds:
        raise UsageError(f"--time must be a time such as 2h, 90m or 1d 12h, not {text!r}")
    return int(seconds)


def _write(target: Path, text: str, submit: str) -> None:
    if str(target) == "-":
        click.echo(text, nl=False)
        return
    try:
        target.write_text(text, "utf-8")
    except OSError as problem:
        raise StorageError(f"cannot write {target}: {problem.strerror}; name another file with -o") from None
    click.echo(f"{target} is written; submit it with: {submit}")
