"""Boosted trees."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from automm.api import Learner, Rows, Tune, torch

if TYPE_CHECKING:
    from torch import Tensor


MANY = 200
"""From so many columns on they are read coarser, and a tree looks at no more than these, to save time."""


class Lightgbm(Learner):
    """Gradient-boosted trees (Ke et al. 2017) on the table's columns and the descriptors of the other inputs.

    LightGBM grows the trees; they are kept as plain arrays and run inside the package's graph.
    """

    name = "lightgbm"
    targets = frozenset({"class", "labels", "number"})
    preference = 1.0

    class Config(Learner.Config):
        """Fields of the boosted trees."""

        learning_rate: Annotated[float, Field(gt=0, le=1), Tune(0.02, 0.2, log=True)] = 0.08
        """Share of each tree that is added."""
        trees: Annotated[int, Field(ge=1)] = 800
        """Most boosting rounds; fewer if the validation loss stops falling."""
        patience: Annotated[int, Field(ge=1)] = 40
        """Rounds without improvement after which it stops."""
        leaves: Annotated[int, Field(ge=2, le=1024), Tune(7, 63, log=True)] = 31
        """Most leaves of a tree."""
        min_rows: Annotated[int, Field(ge=1), Tune(3, 60, log=True)] = 15
        """Least rows in a leaf."""
        column_share: Annotated[float, Field(gt=0, le=1), Tune(0.2, 1.0)] = 0.6
        """Share of the columns that a tree may look at, of at most 200."""
        row_share: Annotated[float, Field(gt=0, le=1), Tune(0.5, 1.0)] = 0.9
        """Share of the rows that a tree is grown on."""
        l2: Annotated[float, Field(ge=0), Tune(0.001, 30.0, log=True)] = 1.0
        """Penalty on the leaves' squared values."""

    def fit(
        self, train: Rows, valid: Rows | None, settled: Mapping[str, Any], stop: Callable[[], bool]
    ) -> dict[str, Any]:
        """Grows the trees; for labels one forest per label.

        Returns:
            {"rounds": boosting rounds per forest, "rows": rows they were settled on}.
        """
        from automm_learners._trees import read_trees

        labels = self.target.kind == "labels"
        forests, rounds = [], []
        for at in range(self.target.size if labels else 1):
            own = None if not labels else at
            told = settled.get("rounds", [])
            booster, grown = self._grow(_column(train, own), valid and _column(valid, own), told[at : at + 1], stop)
            forests.append(booster.dump_model(num_iteration=grown))
            rounds.append(grown)
        trees = read_trees({"tree_info": [info for forest in forests for info in forest["tree_info"]]})
        if labels:
            outputs = [at for at, forest in enumerate(forests) for _ in forest["tree_info"]]
        else:
            outputs = [at % self._scores for at in range(len(trees.root))]
        adds = torch.zeros(len(outputs), self.target.size)
        adds[torch.arange(len(outputs)), torch.tensor(outputs) + self._offset] = 1.0
        arrays = {name: torch.from_numpy(array) for name, array in trees._asdict().items() if name != "depth"}
        self.remember(**arrays, adds=adds, levels=torch.zeros(trees.depth, dtype=torch.bool))
        return {"rounds": rounds}

    @property
    def _scores(self) -> int:
        """Scores per boosting round: one for a number or two classes, else one per class."""
        return self.target.size if self.target.kind == "class" and self.target.size > 2 else 1

    @property
    def _offset(self) -> int:
        """Two classes have one score, which is the second class's logit; the first one's is 0."""
        return 1 if self.target.kind == "class" and self.target.size == 2 else 0

    def _grow(self, train: Rows, valid: Rows | None, rounds: list[int], stop: Callable[[], bool]) -> tuple[Any, int]:
        import lightgbm

        c = self.config
        width = train.features.shape[1]
        objective = {"class": "multiclass" if self._scores > 1 else "binary", "labels": "binary", "number": "l2"}
        parameters = {
            "objective": objective[self.target.kind], "learning_rate": c.learning_rate, "num_leaves": c.leaves,
            "min_data_in_leaf": c.min_rows, "feature_fraction": c.column_share * min(1.0, MANY / width),
            "bagging_fraction": c.row_share, "bagging_freq": 1, "lambda_l2": c.l2, "seed": 0,
            "deterministic": True, "force_row_wise": True,
            "verbosity": -1, "max_bin": 255 if width <= MANY else 63, "num_threads": torch.get_num_threads(),
        }  # fmt: skip
        if self._scores > 1:
            parameters["num_class"] = self.target.size

        def data(rows: Rows, reference: Any = None) -> Any:
            return lightgbm.Dataset(
                rows.features, rows.target, weight=rows.weight, reference=reference, free_raw_data=False
            )

        def out_of_time(environment: Any) -> None:
            if environment.iteration and stop():
                raise lightgbm.callback.EarlyStopException(environment.iteration, environment.evaluation_result_list)

        grown = data(train)
        if valid is None:
            booster = lightgbm.train(parameters, grown, num_boost_round=max(rounds[0] if rounds else c.trees, 1))
            return booster, booster.current_iteration()
        booster = lightgbm.train(
            parameters, grown, num_boost_round=c.trees, valid_sets=[data(valid, grown)],
            callbacks=[lightgbm.early_stopping(c.patience, verbose=False), out_of_time],
        )  # fmt: skip
        return booster, max(booster.best_iteration, 1)

    @classmethod
    def merged(cls, learners: Sequence[Lightgbm]) -> Lightgbm:
        """All trees in one forest, each with its share."""
        first = learners[0]
        out = cls(first.config, first.widths, first.target)
        nodes = [0, *itertools.accumulate(len(own.threshold) for own in learners)]
        depth = max(len(own.levels) for own in learners)
        shift = torch.tensor([0, 1, 0], dtype=first.route.dtype)
        out.remember(
            route=torch.cat([own.route + start * shift for own, start in zip(learners, nodes, strict=False)]),
            threshold=torch.cat([own.threshold for own in learners]),
            value=torch.cat([own.value for own in learners]),
            root=torch.cat([own.root + start for own, start in zip(learners, nodes, strict=False)]),
            adds=torch.cat([own.adds for own in learners]) / len(learners),
            levels=torch.zeros(depth, dtype=torch.bool),
        )
        return out

    def look_at(self, columns: Sequence[int]) -> None:
        """Renumbers the columns that the trees read: column i becomes columns[i]."""
        route = self.route.clone()
        route[:, 0] = torch.tensor(columns, dtype=route.dtype)[route[:, 0].long()]
        self.remember(route=route)

    def forward(self, features: Tensor) -> Tensor:
        """Features [batch, width] → logits, or the number, [batch, size]."""
        from automm_learners._trees import leaf_values

        depth = self.levels.shape[0]
        values: Tensor = leaf_values(features, self.route, self.threshold, self.value, self.root, depth)
        return values @ self.adds


def _column(rows: Rows, label: int | None) -> Rows:
    """The rows with one label as the target."""
    return rows if label is None else rows._replace(target=np.ascontiguousarray(rows.target[:, label]))
