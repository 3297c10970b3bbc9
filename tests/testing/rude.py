"""A module with bad manners."""

import random

from automm.api import Loss

print("hello")
random.seed(1)


class Rude(Loss):
    """Squared error."""

    targets = frozenset({"number"})

    def forward(self, output, target):
        return (output[:, 0] - target).square()
