"""The neural network as one learner among others."""

from __future__ import annotations

from automm.api import Learner


class Network(Learner):
    """A neural network: encoders, fusion and head, trained together by gradient steps.

    What it is made of is chosen under `encoders`, `fusion`, `loss` and `train`.
    """

    targets = frozenset({"class", "labels", "number", "tokens", "aligned"})
    preference = 3.0
    by_gradient = True
