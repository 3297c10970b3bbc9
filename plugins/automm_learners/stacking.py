"""Boosted trees over the table's columns and what linear models make of the other inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from automm.api import Learner, Rows, TargetInfo, nn, torch
from automm_learners.lightgbm import Lightgbm
from automm_learners.linear import Linear

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor

    from automm.api import Context

WIDE = 200
"""An input with more columns than this is read by a linear model of its own."""
FOLDS = 5


class Stacking(Learner):
    """Stacked generalisation (Wolpert 1992): a linear model reads each wide input, boosted trees read what these say.

    The trees see the columns of narrow inputs as they are, and of every wide one (a picture, a text) the few outputs of
    its linear model; so thousands of descriptors cannot drown ten columns of a table. The outputs that the trees learn
    from are those on rows that the linear model was not fitted on.
    """

    name = "stacking"
    targets = frozenset({"class", "labels", "number"})
    preference = 1.5

    class Config(Lightgbm.Config):
        """Fields of the boosted trees."""

    @classmethod
    def unsuited(cls, context: Context, config: BaseModel) -> str | None:
        """It needs several inputs."""
        return "there is one input, nothing to stack" if len(context.inputs) < 2 else None

    def __init__(self, config: Any, widths: Mapping[str, int], target: TargetInfo) -> None:
        super().__init__(config, widths, target)
        self.linear = nn.ModuleDict(
            {slug: Linear(Linear.Config(), {slug: width}, target) for slug, width in widths.items() if width > WIDE}
        )
        seen = {slug: self._said if slug in self.linear else width for slug, width in widths.items()}
        self.trees = Lightgbm(config, seen, target)

    @property
    def _said(self) -> int:
        """What the trees see of a linear model: the score of each class or label, one for two classes or a number."""
        return 1 if self.target.kind == "class" and self.target.size == 2 else self.target.size

    def fit(
        self, train: Rows, valid: Rows | None, settled: Mapping[str, Any], stop: Callable[[], bool]
    ) -> dict[str, Any]:
        """Fits the linear models on folds and on all rows, then the trees on what they say.

        Returns:
            {"linear": input → what its linear model settled, "trees": what the trees settled}.
        """
        folds = train.folds(FOLDS)
        held = {part: [] for part in ("train", "valid")}  # type: dict[str, list[np.ndarray]]
        told: dict[str, Any] = {}
        for slug, own in self._parts(train).items():
            seen = None if valid is None else self._parts(valid)[slug]
            if slug not in self.linear:
                held["train"].append(own.features)
                held["valid"].append(own.features[:0] if seen is None else seen.features)
                continue
            model: Any = self.linear[slug]
            told[slug] = model.fit(own, seen, settled.get("linear", {}).get(slug, {}), stop)
            held["valid"].append(own.features[:0] if seen is None else self._outputs(model, seen.features))
            out = np.zeros((len(own.target), self._said), np.float32)
            for fold in np.unique(folds):
                part = Linear(Linear.Config(), model.widths, self.target)
                rest = own.take(folds != fold) if len(own.take(folds != fold).target) else own
                part.fit(rest, None, told[slug], stop)
                out[folds == fold] = self._outputs(part, own.features[folds == fold])
            held["train"].append(out)
        columns = {part: np.concatenate(pieces, 1) for part, pieces in held.items()}
        trees = self.trees.fit(
            train._replace(features=columns["train"]),
            None if valid is None else valid._replace(features=columns["valid"]),
            settled.get("trees", {}),
            stop,
        )
        return {"linear": told, "trees": trees}

    @classmethod
    def merged(cls, learners: Sequence[Stacking]) -> Stacking:
        """The linear models of each input side by side, and all trees in one forest that reads them."""
        first, count = learners[0], len(learners)
        out = cls(first.config, first.widths, first.target)
        columns: list[list[int]] = [[] for _ in learners]  # of each learner's trees: where they lie now
        width = 0
        for slug, own in first.trees.widths.items():
            wide = slug in first.linear
            for number, seen in enumerate(columns):
                start = width + number * own if wide else width
                seen += range(start, start + own)
            width += own * count if wide else own
            if wide:
                out.linear[slug] = Linear.merged([learner.linear[slug] for learner in learners])
        forests = []
        for learner, seen in zip(learners, columns, strict=True):
            forest = Lightgbm.merged([learner.trees])
            forest.look_at(seen)
            forests.append(forest)
        out.trees = Lightgbm.merged(forests)
        return out

    def _parts(self, rows: Rows) -> dict[str, Rows]:
        """The rows with the columns of one input each."""
        found, start = {}, 0
        for slug, width in self.widths.items():
            found[slug] = rows._replace(features=np.ascontiguousarray(rows.features[:, start : start + width]))
            start += width
        return found

    def _outputs(self, model: Linear, features: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            scores: np.ndarray = self._score(model.each(torch.from_numpy(features))).numpy()
        return scores

    def _score(self, output: Tensor) -> Tensor:
        """Outputs [models, batch, size] → what the trees see, [batch, models * said]."""
        if self.target.kind == "class":
            output = output.softmax(2) if self._said > 1 else output[:, :, 1:] - output[:, :, :1]
        return output.transpose(0, 1).flatten(1)

    def forward(self, features: Tensor) -> Tensor:
        """Features [batch, width] → logits, or the number, [batch, size]."""
        pieces = features.split(list(self.widths.values()), 1)
        seen = [
            self._score(self.linear[slug].each(piece)) if slug in self.linear else piece
            for slug, piece in zip(self.widths, pieces, strict=True)
        ]
        trees: Tensor = self.trees(torch.cat(seen, 1))
        return trees
