"""`automm`: finds commands by name, imports only the one that runs, and turns errors into messages and exit codes."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
from typing import Any, NoReturn

import click

from automm import __version__
from automm.errors import AutommError, ExitCode
from automm.launch import restart

COMMANDS = {
    "init": "Write a recipe from a table.",
    "check": "Check a recipe and its data, without torch.",
    "plan": "Show what fit would try, and how long it takes.",
    "fit": "Train, choose, and write a verified package.",
    "launch": "Write what a cluster needs: Slurm, Kubernetes.",
    "predict": "Predict every row of a table.",
    "serve": "Serve packages over HTTP.",
    "evaluate": "Measure a package on a labelled table.",
    "monitor": "Compare new rows with those that a package was trained on.",
    "update": "Train a package further on new rows; keep the better one.",
    "package": "Inspect or verify a package.",
    "export": "Write a package for Docker, Kubernetes, MLflow and others.",
    "plugins": "List plugins and components, start a new plugin, check one.",
    "cache": "Show or clear what earlier runs computed from cells.",
    "schema": "Write the recipe's JSON schema for editors.",
}
"""Command → one line; each lives in the module of its name, which is imported only when it runs."""


class Commands(click.Group):
    """The commands of automm, then those that plugins add."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of a first day with automm."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Imports a command; an unknown name is looked for among the plugins."""
        if name in COMMANDS:
            command: click.Command = importlib.import_module(f"automm.cli.{name}").command
            return command
        if name not in self.commands:
            from automm.plugin.loader import load_plugins

            plugins = load_plugins()
            plugins.call("automm_commands", lambda text: click.echo(f"warning: {text}", err=True), group=self)
        return super().get_command(ctx, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="automm")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Multimodal AutoML: one recipe in, one verified, deployable package out."""
    context.obj = {"debug": debug}


def main() -> NoReturn:
    """Runs the command line and leaves with its exit code."""
    # Threads of torch's OpenMP that wait by spinning take the core from those that work: with one other busy process on
    # two cores a training step took 50 times as long. Must be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Processors work on all cores with one thread each; NumPy's own threads on their small matrices only cost: pictures
    # took 3.5 times the processor time. Must be set before NumPy is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if (code := restart.ended()) is not None:
        _leave(code)
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        code = cli.main(standalone_mode=False)
        _leave(code if isinstance(code, int) else ExitCode.OK)
    except click.exceptions.Exit as exit_:
        _leave(exit_.exit_code)
    except click.ClickException as problem:
        if restart.end(ExitCode.USAGE):
            problem.show()
        _leave(ExitCode.USAGE)
    except AutommError as problem:
        _say(str(problem), problem.exit_code, debug, located=problem.located)
    except (KeyboardInterrupt, click.exceptions.Abort):
        _say("stopped; what was computed is kept, run the same command again to go on", ExitCode.INTERRUPTED, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(ExitCode.OK)
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] not in TRAINING:
            _say(f"{type(problem).__name__}: {problem}", ExitCode.INTERNAL, debug)
        text = f"this command needs {problem.name}, which the base install leaves out: pip install 'automm[train]'"
        _say(text, ExitCode.MISSING_EXTRA, debug)
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            _say(_unexpected(problem), ExitCode.INTERNAL, debug)
        _say(f"cannot write {problem.filename or 'a file'}: {problem.strerror}", ExitCode.STORAGE, debug)
    except MemoryError:
        _say("out of memory; a smaller train.batch_size or max length may help", ExitCode.INTERNAL, debug)
    except Exception as problem:
        from automm.plugin.blame import culprit

        if raiser := culprit(problem):
            _say(f"{raiser} raised {type(problem).__name__}: {problem}", ExitCode.PLUGIN, debug)
        _say(_unexpected(problem), ExitCode.INTERNAL, debug)


TRAINING = frozenset(
    {"torch", "lightning", "transformers", "optuna", "torchmetrics", "sklearn", "safetensors", "onnx", "onnxscript",
     "datasets", "rich", "rtdl_num_embeddings", "scipy", "lightgbm", "tabm", "peft", "torch_geometric"}
)  # fmt: skip
"""Top-level modules of the extra `train`."""


def _unexpected(problem: Exception) -> str:
    return f"internal error, please report it (with --debug output): {type(problem).__name__}: {problem}"


def _say(text: str, code: int, debug: bool, *, located: bool = False) -> NoReturn:
    if debug:
        traceback.print_exc()
    if restart.end(code):
        print(text if located else f"error: {text}", file=sys.stderr)
    _leave(code)


def _leave(code: Any) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(int(restart.status(int(code))))
