"""Learners: what is fitted in one go where a network takes gradient steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from automm.core.component import ModuleComponent
from automm.core.profile import TargetInfo

if TYPE_CHECKING:
    import numpy as np
    import torch


FOLDS = 5
"""Learners that stand for one of the winner's, each fitted on the other folds of training and validation rows."""


class Rows(NamedTuple):
    """Rows as a learner sees them.

    Attributes:
        features: Float32 [rows, width]: the pooled features of all inputs side by side, in the order of `widths`; NaN
            where a value is unknown or the input is missing.
        target: As a loss sees it: int64 [rows] ("class"), float [rows, size] ("labels"), float [rows] ("number").
        weight: Float32 [rows]: how much each row counts; 1 on average.
        group: Rows with the same number, int64 [rows], belong together and must not be split; None: every row is alone.
    """

    features: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    group: np.ndarray | None = None

    def take(self, positions: np.ndarray) -> Rows:
        """Some of the rows, by position or as a mask."""
        return Rows(*(None if values is None else values[positions] for values in self))  # type: ignore[arg-type]

    def folds(self, number: int, seed: int = 0) -> np.ndarray:
        """Deals the rows to folds of about the same size, class by class, whole groups together.

        Args:
            number: At most so many folds; fewer if there are fewer groups.
            seed: Of the shuffle.

        Returns:
            The fold of every row, int64 [rows].
        """
        import numpy as np
        from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

        classes = self.target if self.target.ndim == 1 and np.issubdtype(self.target.dtype, np.integer) else None
        units = len(self.target) if self.group is None else len(np.unique(self.group))
        number = min(number, units)
        out = np.zeros(len(self.target), np.int64)
        if number < 2:
            return out
        if classes is not None and np.bincount(classes).max() < number:
            classes = None
        kinds = {
            (False, False): KFold, (True, False): StratifiedKFold,
            (False, True): GroupKFold, (True, True): StratifiedGroupKFold,
        }  # fmt: skip
        split = kinds[classes is not None, self.group is not None](number, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class with fewer rows than folds
            for fold, (_, held) in enumerate(split.split(self.features, classes, self.group)):
                out[held] = fold
        return out


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
            settled: Empty, or what an earlier `fit` on other rows of the same table returned: without `valid` it says
                all that `valid` would, with it the learner may take from it what is dear to find again.
            stop: To be asked now and then; True: the time is up, end with what there is.

        Returns:
            What validation settled (number of trees, say): plain JSON.
        """
        raise NotImplementedError

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features [batch, width] → output [batch, size] as of a network's head: logits, or the standardised number."""
        raise NotImplementedError

    @classmethod
    def merged(cls, learners: Sequence[Self]) -> Self | None:
        """One learner whose output is the mean of what several give, which were fitted on different rows.

        Args:
            learners: At least two, of this class, with the same configuration and widths.

        Returns:
            None if there is no such thing: they run side by side then, which makes the graph larger and slower.
        """
        del learners
        return None

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
