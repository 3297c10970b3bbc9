"""A component whose module cannot be imported without torch."""

import torch

from automm.api import Loss


class Eager(Loss):
    """Imports torch too early."""

    targets = frozenset({"number"})

    def forward(self, output, target):
        return torch.square(output[:, 0] - target)
