"""The model that sees nothing: what every other one has to beat."""

from __future__ import annotations

import numpy as np
import torch

from automm.core.features import Features
from automm.plugin.blame import blamed
from automm.search.space import Preferred, sampled
from automm.train.bench import Bench
from automm.train.module import measure

STEPS, RATE = 300, 0.1
ROWS = 20_000
"""Most training rows that are looked at."""


def constant_metrics(bench: Bench) -> dict[str, float | None]:
    """The validation metrics of the best answer that is the same for every row: the majority, the mean, the shares.

    The task's head is trained on nothing by the preferred loss, so every task and loss has such a model.

    Args:
        bench: Data, task and registry.
    """
    task, registry, plan = bench.task, bench.registry, bench.plan
    choice = sampled("loss", "loss", plan.candidates.loss[0].component, registry, Preferred())
    cls = registry.get("loss", choice["name"])
    train, valid = (torch.from_numpy(bench.parts[part].target) for part in ("train", "valid"))
    if len(train) > ROWS:
        train = train[torch.from_numpy(np.random.default_rng(plan.seed).choice(len(train), ROWS, replace=False))]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        loss = cls(cls.Config.model_validate(choice["config"]), task.target())
        head = task.head(1).eval()
        wanted = task.model_target(train)
        optimizer = torch.optim.Adam([*head.parameters(), *loss.parameters()], RATE)
        for _ in range(STEPS):
            optimizer.zero_grad()
            output = head(_nothing(len(train))).float()
            with blamed(registry, cls, "forward"):
                rows = loss(output, wanted)
            rows.mean().backward()
            optimizer.step()
        with torch.no_grad():
            return measure(task, task.answer(head(_nothing(len(valid)))), valid)


def _nothing(rows: int) -> Features:
    """Joint features that say the same of every row."""
    return Features.vector(torch.zeros(rows, 1))
