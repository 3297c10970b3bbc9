"""Training one resolved configuration: the Lightning run and its report."""

from __future__ import annotations

import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor

from automm.core.kinds import Encoder
from automm.data.batches import Batches
from automm.errors import StorageError
from automm.model.assemble import AnswerModel, MultimodalModel, build_model, build_objective, parameter_groups
from automm.model.frozen import frozen_names
from automm.plan.prepare import UNLABELED
from automm.plugin.blame import blamed, told
from automm.train.bench import Bench, View
from automm.train.callbacks import Watch
from automm.train.cost import cost_of
from automm.train.module import TAG, OtherRankFailed, TrialModule, evaluate, measure
from automm.train.ranks import TIMEOUT, Ranks
from automm.train.report import TrialReport
from automm.train.standing import Standings
from automm.train.weights import save_weights

EVALUATION_BATCH = 256
MOST_UNLABELED = 7
"""A step sees up to so many times as many rows without an answer as with one (Sohn et al. 2020, FixMatch)."""
ROW = f"{TAG}row"
"""The row numbers among a trial's kept answers."""


def device() -> torch.device:
    """The accelerator of this process, or the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


class TensorBatches:
    """`Batches` as tensors on a device; what Lightning iterates over."""

    def __init__(self, batches: Batches, where: torch.device) -> None:
        self._batches, self._where = batches, where
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        self._batches.set_epoch(self.epoch)
        self.epoch += 1  # before the last batch: Lightning does not ask for more than there are
        for batch in self._batches:
            yield {key: torch.from_numpy(value).to(self._where) for key, value in batch.items()}

    def endless(self) -> Iterator[dict[str, Tensor]]:
        """One epoch after the other."""
        while True:
            yield from self


def evaluation_batches(view: View, ranks: Ranks) -> TensorBatches:
    """All rows of a view once, in order."""
    batches = Batches(
        view.stores, view.target, EVALUATION_BATCH, positions=view.positions, rank=ranks.rank, world=ranks.world
    )
    return TensorBatches(batches, device())


def half_precision(precision: str) -> bool:
    """Whether `train.precision` asks for bfloat16 on this device."""
    return precision == "bf16" or (precision == "auto" and torch.cuda.is_available() and torch.cuda.is_bf16_supported())


def autocast() -> Any:
    """The context in which matrix products are computed in bfloat16."""
    return torch.autocast(device().type, torch.bfloat16)


def run_trial(
    name: str,
    resolved: dict[str, Any],
    bench: Bench,
    folder: Path,
    *,
    on_epoch: Callable[[int, float, dict[str, Any]], bool] = lambda *_: False,
    on_past: Callable[[int, float], None] = lambda *_: None,
    deadline: float | None = None,
    stopping: Callable[[], bool] = lambda: False,
    least: int = 0,
    callbacks: list[Any] | None = None,
    logger: Any = None,
    start: Callable[[MultimodalModel], None] = lambda _: None,
) -> tuple[TrialReport, MultimodalModel | None]:
    """Trains a resolved configuration on all ranks. What a kill left of it is gone on with.

    Args:
        name: For the report.
        resolved: The configuration.
        bench: Data, task and registry.
        folder: The trial's folder; rank 0 writes the best weights and their validation answers there as safetensors.
        on_epoch: Called on rank 0 after each epoch with (epoch, value, metrics); True prunes the trial.
        on_past: Called on rank 0 with (epoch, value) of what an attempt that was killed had measured already.
        deadline: `time.monotonic()` at which training ends.
        stopping: Asks whether the user wants the run to end.
        least: Epochs that must be possible before the deadline; a trial that is too slow for that fails at once.
        callbacks: More Lightning callbacks.
        logger: A Lightning logger.
        start: Is given the new model, to load weights that it begins with.

    Returns:
        The report and, if it completed, the model with its best weights. A failure on any rank is a failed report on
        every rank, never an exception.

    Raises:
        StorageError: On every rank, if one could not write: the next trial could not, either.
    """
    began = time.monotonic()
    report = TrialReport(name, "failed", resolved)
    ranks, model = bench.ranks, None
    error: Exception | None = None
    watch: Watch | None = None
    standings = Standings(folder, resolved, ranks)
    try:
        L.seed_everything(resolved["seed"], verbose=False)
        module, train, valid = _prepare(resolved, bench, start)
        report.parameters = sum(p.numel() for p in module.model.parameters())
        report.checkpoints = bench.checkpoints.digests(resolved, bench.view("train", resolved).processors)
        report.trained = sum(p.numel() for p in module.model.parameters() if p.requires_grad)
    except Exception as problem:
        error = problem
    if not any(ranks.gather(error is not None)):
        try:
            model = module.model
            precision = resolved["train"]["precision"]
            mixed = autocast() if half_precision(precision) else None
            answering = AnswerModel(model, bench.task)
            metrics = bench.task.metrics()

            def on_valid() -> tuple[dict[str, float | None], dict[str, Tensor]]:
                answers, target, row = evaluate(answering, valid, ranks, mixed)
                return measure(bench.task, answers, target), {**answers, ROW: row}

            watch = Watch(
                on_valid, bench.metric, metrics[bench.metric].maximize, resolved["train"]["patience"],
                on_epoch, deadline, stopping, ranks, min(least, resolved["train"]["epochs"]),
                frozen_names(cast(Mapping[str, Encoder], model.encoders)), standings,
                standings.read(module.state_dict()), on_past,
            )  # fmt: skip
            with model.frozen_aside(device()):
                train.epoch = watch.offset
                _fit(module, train, resolved["train"], [watch, *(callbacks or [])], logger, ranks, watch.offset)
        except Exception as problem:
            error = problem
    failures = [failure for failure in ranks.gather(describe_error(error)) if failure]
    for kind, text in failures:
        if kind == StorageError.__name__:
            raise StorageError(text)
    errors = [text for kind, text in failures if kind != OtherRankFailed.__name__]
    if watch is not None:
        report.metrics, report.best_epoch, report.history = watch.best, watch.best_epoch, watch.history
        report.value, report.epochs, report.ended = watch.best.get(bench.metric), len(watch.history), watch.ended
    if failures:
        report.error = errors[0] if errors else failures[0][1]
    elif report.value is None:
        report.error = f"{bench.metric} is not defined on the validation rows"
    else:
        report.state = "pruned" if watch is not None and watch.pruned else "complete"
    report.seconds = round(time.monotonic() - began + (watch.earlier if watch is not None else 0.0), 3)
    ranks.first(standings.clear)
    if report.state != "complete" or model is None or watch is None:
        return report, None
    model.load_state_dict(watch.best_weights, strict=False)  # all but what is frozen
    tensors, valid_view = {"weights": watch.best_weights, "answers": watch.best_answers}, bench.view("valid", resolved)

    def finish() -> list[float]:
        for stem, content in tensors.items():
            save_weights(content, folder / f"{stem}.safetensors")
        return list(cost_of(model, bench, valid_view))

    try:
        report.latency_ms, report.size_mb = ranks.first(finish)
    except StorageError:
        raise
    except Exception as problem:
        report.state, report.error = "failed", f"a row alone cannot be answered: {told(problem)}"
        return report, None
    return report, model


def _prepare(
    resolved: dict[str, Any], bench: Bench, start: Callable[[MultimodalModel], None]
) -> tuple[TrialModule, TensorBatches, TensorBatches]:
    """Model, loss, objective and data of a trial."""
    ranks, registry, train = bench.ranks, bench.registry, resolved["train"]
    views = {part: bench.view(part, resolved) for part in ("train", "valid")}
    model = build_model(resolved, views["train"].processors, bench.task, registry, bench.checkpoints.encoder)
    start(model)
    loss_cls = registry.get("loss", resolved["loss"]["name"])
    with blamed(registry, loss_cls, "__init__"):
        loss = loss_cls(loss_cls.Config.model_validate(resolved["loss"]["config"]), bench.task.target())
    batches = Batches(
        views["train"].stores, views["train"].target, train["batch_size"], positions=views["train"].positions,
        shuffle=True, seed=resolved["seed"], rank=ranks.rank, world=ranks.world, by_length=True,
        **bench.sampling(views["train"], resolved["sampling"]),
    )  # fmt: skip
    objective = build_objective(resolved, model, bench.context(resolved), registry)
    groups = parameter_groups(model, resolved, registry, loss, objective)
    alone = train["pretrain"] if objective else 0
    module = TrialModule(
        model, loss, bench.task, groups, (alone + train["epochs"]) * len(batches), train, ranks, registry,
        objective, _unlabeled(bench, resolved, len(views["train"].positions)) if objective else None,
        alone * len(batches),
    )  # fmt: skip
    return module, TensorBatches(batches, device()), evaluation_batches(views["valid"], ranks)


def _unlabeled(bench: Bench, resolved: dict[str, Any], labeled: int) -> Iterator[dict[str, Tensor]] | None:
    """Batches of the rows without an answer, over and over; None if there are none."""
    if UNLABELED not in bench.parts or not len(bench.parts[UNLABELED].rows):
        return None
    view = bench.view(UNLABELED, resolved)
    times = min(-(-len(view.positions) // labeled), MOST_UNLABELED)
    batches = Batches(
        view.stores, None, resolved["train"]["batch_size"] * max(times, 1), positions=view.positions, shuffle=True,
        seed=resolved["seed"], rank=bench.ranks.rank, world=bench.ranks.world, by_length=True,
    )  # fmt: skip
    return TensorBatches(batches, device()).endless()


def _fit(
    module: TrialModule,
    batches: TensorBatches,
    train: Mapping[str, Any],
    callbacks: list[Any],
    logger: Any,
    ranks: Ranks,
    done: int,
) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    where = device()
    strategy: Any = SingleDeviceStrategy(where)
    if ranks.world > 1:
        strategy = DDPStrategy(find_unused_parameters=True, timeout=TIMEOUT, start_method="popen")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec.` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "The number of training batches", UserWarning)
        # Frozen encoders are in eval mode on purpose.
        warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode", UserWarning)
        trainer = L.Trainer(
            max_epochs=train["epochs"] + (train["pretrain"] if module.objective is not None else 0) - done,
            accelerator=where.type,
            devices=1 if ranks.world == 1 else ranks.world // ranks.nodes,
            num_nodes=ranks.nodes,
            strategy=strategy,
            precision="bf16-mixed" if half_precision(train["precision"]) else "32-true",
            callbacks=[*callbacks, _KeepSignals()],
            logger=logger or False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(module, batches)
        except SystemExit as left:  # Lightning leaves the process on Ctrl-C; its caller knows better how
            if isinstance(left.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from left
            raise


class _KeepSignals(Callback):
    """Keeps the run's own handling of SIGTERM: Lightning's leaves the process with success in the midst of an epoch."""

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Takes the signal back."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)


def describe_error(problem: Exception | None) -> list[str] | None:
    """Kind and text of an error."""
    if problem is None:
        return None
    return [type(problem).__name__, told(problem)]
