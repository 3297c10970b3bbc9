"""Learners: what is fitted in one go where a network takes gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from automm.core.component import ModuleComponent
from automm.core.profile import TargetInfo

if TYPE_CHECKING:
    import numpy as np
    import torch


class Rows(NamedTuple):
    """Rows as a learner sees them.

    Attributes:
        features: Float32 [rows, width]: the pooled features of all inputs side by side, in the order of `widths`; NaN
            where a value is unknown or the input is missing.
        target: As a loss sees it: int64 [rows] ("class"), float [rows, size] ("labels"), float [rows] ("number").
        weight: Float32 [rows]: how much each row counts; 1 on average.
    """

    features: np.ndarray
    target: np.ndarray
    weight: np.ndarray


class Learner(ModuleComponent, abstract=True):
    """Predicts from fixed features: boosted trees, linear models, neighbours.

    The author writes `__init__(config, widths, target)`, `fit`, which keeps what it learned with `self.remember(…)`,
    and `forward`, in torch operations that export to ONNX. So a learner lives in the same graph, ensemble and package
    as a network, and serving needs nothing of the library that fitted it.

    Attributes:
        targets: The target kinds it accepts ("class", "labels", "number", …).
        preference: Learners with a higher preference are tried first.
        by_gradient: True only for the network, whose encoders, fusion and head automm trains together: no `fit`.
    """

    kind = "learner"
    by_gradient: ClassVar[bool] = False
    targets: ClassVar[frozenset[str]] = frozenset()
    preference: ClassVar[float] = 0.0

    def __init__(self, config: Any, widths: Mapping[str, int], target: TargetInfo) -> None:
        super().__init__()
        self.config, self.widths, self.target = config, dict(widths), target

    def fit(
        self, train: Rows, valid: Rows | None, settled: Mapping[str, Any], stop: Callable[[], bool]
    ) -> dict[str, Any]:
        """Learns from the training rows.

        Args:
            train: The training rows.
            valid: Rows to stop early on, or to choose a strength of regularisation; None when it is fitted again on all
                rows.
            settled: Empty, or without `valid` what an earlier `fit` returned.
            stop: To be asked now and then; True: the time is up, end with what there is.

        Returns:
            What validation settled (number of trees, say): plain JSON.
        """
        raise NotImplementedError

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features [batch, width] → output [batch, size] as of a network's head: logits, or the standardised number."""
        raise NotImplementedError

    def remember(self, **tensors: torch.Tensor) -> None:
        """Keeps tensors of any shape as buffers; weights that are loaded later may have other shapes."""
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: Any, strict: bool, *rest: Any
    ) -> None:
        """Takes the buffers that come, whatever their shapes: only `fit` knows them."""
        own = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        self.remember(**{name: tensor for name, tensor in own.items() if "." not in name})
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, *rest)
