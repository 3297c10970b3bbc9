"""Training through automm (Lightning) against a bare PyTorch loop of the same model and the same steps.

    python docs/benchmarks/training.py [--rows 6400] [--epochs 10] [--repeats 5]

Both train the same small tabular network on arrays in memory: AdamW, warm-up and cosine, gradient clipping, and a pass
over the validation rows after every epoch. The bare loop indexes ready tensors. Runs alternate; the median of the
ratios is printed.
"""

from __future__ import annotations

import argparse
import csv
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from automm.data.ledger import Ledger
from automm.model.assemble import build_model, parameter_groups
from automm.plan import build_plan, prepare
from automm.recipe.parse import load_with_plugins
from automm.search.space import first_trials
from automm.train.bench import Bench
from automm.train.ranks import Ranks
from automm.train.run import run_trial

RECIPE = """
data: train.csv
target: y
train: {epochs: %d, patience: %d, batch_size: 64}
"""


def write_table(path: Path, rows: int) -> None:
    """Ten numbers and a class that depends on three of them."""
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 10))
    y = (x[:, 0] * x[:, 1] + x[:, 2] > 0).astype(int)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"x{i}" for i in range(10)), "y"])
        writer.writerows([*row.round(4), "yes" if label else "no"] for row, label in zip(x, y, strict=True))


def tensors(view) -> dict[str, torch.Tensor]:
    """All rows of a view."""
    found = {}
    for slug, store in view.stores.items():
        found |= {f"{slug}.{name}": torch.from_numpy(array) for name, array in store.batch(view.positions).items()}
        found[f"{slug}.present"] = torch.from_numpy(store.present[view.positions])
    return found


def bare(bench: Bench, resolved: dict, epochs: int) -> float:
    """Seconds of a plain loop."""
    train, valid = bench.view("train", resolved), bench.view("valid", resolved)
    torch.manual_seed(0)
    model = build_model(resolved, train.processors, bench.task, bench.registry)
    loss_cls = bench.registry.get("loss", resolved["loss"]["name"])
    loss = loss_cls(loss_cls.Config(**resolved["loss"]["config"]), bench.task.target())
    x, y = tensors(train), torch.from_numpy(train.target[train.positions])
    vx, vy = tensors(valid), torch.from_numpy(valid.target[valid.positions])
    start = time.perf_counter()
    optimizer = torch.optim.AdamW(parameter_groups(model, resolved, bench.registry, loss), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 100))
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(y)).split(64):
            batch = {name: tensor[rows] for name, tensor in x.items()}
            value = loss(model(batch), y[rows]).mean()
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            for rows in torch.arange(len(vy)).split(256):
                (model({name: tensor[rows] for name, tensor in vx.items()}).argmax(1) == vy[rows]).float().mean()
    return time.perf_counter() - start


def main() -> None:
    """Times both in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6400)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "train.csv", options.rows)
        (folder / "recipe.yaml").write_text(RECIPE % (options.epochs, options.epochs))
        recipe, plugins = load_with_plugins(folder / "recipe.yaml")
        prepared = prepare(recipe, plugins.registry, folder / "tables", Ledger())
        plan = build_plan(recipe, plugins.registry, prepared)
        bench = Bench(plugins.registry, plan, prepared.parts, prepared.task, folder, Ledger(), Ranks())
        resolved, _ = first_trials(plan, plugins.registry)[0]
        bare(bench, resolved, 1)
        run_trial("warm", {**resolved, "train": {**resolved["train"], "epochs": 1}}, bench, folder / "warm")
        ratios = []
        for repeat in range(options.repeats):
            plain = bare(bench, resolved, options.epochs)
            start = time.perf_counter()
            report, _ = run_trial("timed", resolved, bench, folder / "timed")
            ours = time.perf_counter() - start
            assert report.epochs == options.epochs, report
            ratios.append(ours / plain)
            print(f"{repeat}: bare {plain:.2f} s, automm {ours:.2f} s, ratio {ratios[-1]:.2f}")
        print(f"median ratio {statistics.median(ratios):.2f} (automm with Lightning / bare PyTorch loop)")


if __name__ == "__main__":
    main()
