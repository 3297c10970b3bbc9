"""Short trials on a small table: learning, every way to end, what is kept, and what fails."""

from __future__ import annotations

import copy
import math
import time

import numpy as np
import pytest

from automm.errors import StorageError
from automm.train import bench as bench_module
from automm.train.ranks import Ranks

torch = pytest.importorskip("torch")
from automm.train.run import half_precision, run_trial  # noqa: E402
from automm.train.weights import load_weights  # noqa: E402


def changed(resolved, **train):
    found = copy.deepcopy(resolved)
    found["train"].update(train)
    return found


def test_trial_learns_and_keeps_its_best_epoch(make_bench, tmp_path):
    bench, (resolved,) = make_bench("train: {epochs: 8, patience: 8}\n")
    seen = []
    report, model = run_trial("0", resolved, bench, tmp_path / "0", on_epoch=lambda *epoch: seen.append(epoch) or False)
    assert (report.state, report.error, report.ended) == ("complete", None, "all epochs done")
    assert report.value > 0.9
    assert report.value == max(entry["roc_auc"] for entry in report.history)
    assert report.history[report.best_epoch]["roc_auc"] == report.value
    assert report.history[-1]["loss"] < report.history[0]["loss"]
    assert [epoch for epoch, *_ in seen] == list(range(8)) == [entry["epoch"] for entry in report.history]
    assert report.trained == report.parameters == sum(p.numel() for p in model.parameters())
    kept = load_weights(tmp_path / "0" / "weights.safetensors")
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    answers = load_weights(tmp_path / "0" / "answers.safetensors")
    assert answers["probabilities"].shape == (bench.plan.rows["valid"], 2)
    assert answers["automm.row"].tolist() == bench.parts["valid"].rows.tolist()
    value = bench.task.metrics()["roc_auc"].compute(answers, torch.from_numpy(bench.parts["valid"].target))
    assert value == pytest.approx(report.value)


def test_same_seed_gives_the_same_trial_whatever_ran_before(make_bench, tmp_path):
    bench, (resolved,) = make_bench("train: {epochs: 2}\n")
    first, _ = run_trial("0", resolved, bench, tmp_path / "0")
    run_trial("1", {**resolved, "seed": 7}, bench, tmp_path / "1")
    again, _ = run_trial("2", resolved, bench, tmp_path / "2")
    other, _ = run_trial("3", {**resolved, "seed": 7}, bench, tmp_path / "3")
    assert first.history == again.history
    assert first.history != other.history


def test_every_epoch_has_all_rows_in_another_order(make_bench, tmp_path):
    import lightning as L

    bench, (resolved,) = make_bench("train: {epochs: 3, patience: 3, batch_size: 16}\n")
    seen = [[], [], []]

    class Look(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            seen[trainer.current_epoch] += batch["row"].tolist()

    run_trial("0", resolved, bench, tmp_path / "0", callbacks=[Look()])
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(seen[2]) == bench.parts["train"].rows.tolist()
    assert seen[0] != seen[1] != seen[2] != seen[0]


def test_patience_ends_a_trial_that_stands_still(make_bench, tmp_path):
    bench, (resolved,) = make_bench("train: {epochs: 50, patience: 3}\n")
    report, _ = run_trial("0", changed(resolved, learning_rate=1e-12), bench, tmp_path)
    assert report.ended == "no better roc_auc for 3 epochs"
    assert report.epochs == report.best_epoch + 4 < 50


def test_metric_where_less_is_better_is_minimised(make_bench, tmp_path):
    bench, (resolved,) = make_bench("train: {epochs: 6}\n", metric="log_loss")
    report, _ = run_trial("0", resolved, bench, tmp_path)
    losses = [entry["log_loss"] for entry in report.history]
    assert report.value == min(losses) < losses[0]


def test_deadline_ends_within_the_epoch(make_bench, tmp_path):
    bench, (resolved,) = make_bench("train: {epochs: 1000, batch_size: 2, patience: 1000}\n")
    began = time.monotonic()
    report, _ = run_trial("0", resolved, bench, tmp_path, deadline=began + 1.0)
    assert (report.state, report.ended) == ("complete", "the time is up")
    assert time.monotonic() - began < 6.0
    late, _ = run_trial("1", resolved, bench, tmp_path, deadline=began)  # measured after one step
    assert (late.state, late.epochs) == ("complete", 1)


def test_stop_request_ends_the_trial_with_a_model(make_bench, tmp_path):
    bench, (resolved,) = make_bench("train: {epochs: 50}\n")
    report, model = run_trial("0", resolved, bench, tmp_path, stopping=lambda: True)
    assert (report.state, report.ended, report.epochs) == ("complete", "stopped on request", 1)
    assert model is not None


def test_pruned_trial_leaves_no_weights(make_bench, tmp_path):
    bench, (resolved,) = make_bench("train: {epochs: 50}\n")
    report, model = run_trial("0", resolved, bench, tmp_path / "0", on_epoch=lambda epoch, *_: epoch == 1)
    assert (report.state, report.ended, report.epochs) == ("pruned", "pruned", 2)
    assert report.value is not None
    assert model is None
    assert not (tmp_path / "0" / "weights.safetensors").exists()


def test_loss_that_explodes_fails_the_trial_alone(make_bench, tmp_path):
    bench, (resolved,) = make_bench("train: {epochs: 5}\n")
    report, model = run_trial("0", changed(resolved, learning_rate=1e30, gradient_clip=0.0), bench, tmp_path)
    assert report.state == "failed"
    assert report.error.startswith("the training loss became ")
    assert model is None
    assert run_trial("1", resolved, bench, tmp_path)[0].state == "complete"


@pytest.mark.parametrize("where", ["__init__", "forward"])
def test_component_that_raises_fails_the_trial_by_name(make_bench, tmp_path, monkeypatch, where):
    bench, (resolved,) = make_bench("train: {epochs: 1}\n")
    cls = bench.registry.get("fusion", resolved["fusion"]["name"])

    def broken(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(cls, where, broken)
    report, _ = run_trial("0", resolved, bench, tmp_path)
    assert report.state == "failed"
    assert f"fusion {cls.name!r} of plugin" in report.error
    assert f"{where} raised RuntimeError: no" in report.error


def test_full_disk_ends_the_run(make_bench, tmp_path):
    bench, (resolved,) = make_bench("train: {epochs: 1}\n")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        run_trial("0", resolved, bench, tmp_path / "file")

    def full(*_):
        raise StorageError("cannot write events.jsonl: No space left on device")

    with pytest.raises(StorageError, match="No space left"):
        run_trial("0", resolved, bench, tmp_path / "0", on_epoch=full)


def test_second_interrupt_leaves_as_an_interrupt(make_bench, tmp_path):
    bench, (resolved,) = make_bench("train: {epochs: 5}\n")

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial("0", resolved, bench, tmp_path, on_epoch=interrupt)


def test_bfloat16_on_the_cpu(make_bench, tmp_path):
    bench, (resolved,) = make_bench("train: {epochs: 4}\n")
    kinds = set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Linear, "forward", _watched(torch.nn.Linear.forward, kinds))
        half, model = run_trial("0", changed(resolved, precision="bf16"), bench, tmp_path)
    assert half.state == "complete", half.error
    assert torch.bfloat16 in kinds
    assert all(p.dtype == torch.float32 for p in model.parameters())
    full, _ = run_trial("1", changed(resolved, precision="32"), bench, tmp_path)
    assert half.history != full.history
    assert half.value == pytest.approx(full.value, abs=0.1)
    assert half_precision("bf16")
    assert not half_precision("32")


def _watched(forward, kinds):
    def watched(self, x):
        output = forward(self, x)
        kinds.add(output.dtype)
        return output

    return watched


def test_resampling_draws_rare_rows_more_often(make_bench, tmp_path):
    from lightning import Callback

    class Targets(Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            self.seen += batch["target"].tolist()

    bench, trials = make_bench("train: {epochs: 1}\nimbalance: [none, resample]\n", rare=0.125)
    shares = {}
    for resolved in trials:
        targets = Targets()
        report, _ = run_trial("0", resolved, bench, tmp_path, callbacks=[targets])
        assert report.state == "complete"
        shares[resolved["sampling"]] = np.mean(targets.seen)
    assert shares == {"none": pytest.approx(0.125, abs=0.01), "over": pytest.approx(0.5, abs=0.01)}


def test_tensorboard_holds_the_learning_curve(make_bench, tmp_path):
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    bench, (resolved,) = make_bench("train: {epochs: 3}\n")
    logger = TensorBoardLogger(tmp_path, name="tensorboard", version="0")
    report, _ = run_trial("0", resolved, bench, tmp_path / "0", logger=logger)
    curves = EventAccumulator(str(tmp_path / "tensorboard" / "0")).Reload()
    for name in ("loss", "roc_auc"):
        points = [(scalar.step, scalar.value) for scalar in curves.Scalars(name)]
        assert points == [(entry["epoch"], pytest.approx(entry[name], abs=1e-6)) for entry in report.history]


def test_stores_are_closed_when_memory_is_full(make_bench, monkeypatch):
    bench, (resolved,) = make_bench()
    view = bench.view("train", resolved)
    assert bench.view("train", resolved).stores == view.stores
    monkeypatch.setattr(bench_module, "MEMORY", 0)
    bench.view("valid", resolved)
    again = bench.view("train", resolved)
    assert again.stores.keys() == view.stores.keys()
    for slug, store in again.stores.items():
        assert store is not view.stores[slug]
        assert np.array_equal(store.rows, view.stores[slug].rows)


def test_one_process_agrees_with_itself():
    ranks = Ranks()
    assert ranks.gather(3) == [3]
    assert ranks.first(lambda: {"a": 1}) == {"a": 1}
    assert ranks.keep(lambda: math) is math
    assert ranks.first_then_all(lambda: "read") == "read"
    with pytest.raises(StorageError, match="full"):
        ranks.first_then_all(_raise_full)


def _raise_full():
    raise StorageError("full")
