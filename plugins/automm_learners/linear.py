"""Linear models."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from automm.api import Learner, Rows, torch

if TYPE_CHECKING:
    from torch import Tensor

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""What the penalty is divided by, from a strong one to a weak one."""
WORSE = 1.02
"""Once the loss is so many times the least, weaker penalties are not tried."""
STEPS = 80
"""Most steps of a logistic regression: with thousands of columns more cost a multiple and bring nothing."""
REACH = 5.0
"""Standardised values are cut off at so many standard deviations."""


class Linear(Learner):
    """Logistic regression, or ridge regression for numbers, on standardised descriptors.

    Each input is scaled to the same total variance, so that thousands of picture values do not drown ten columns of a
    table. The strength of the L2 penalty is chosen on the validation rows.
    """

    targets = frozenset({"class", "labels", "number"})
    preference = 2.0

    def fit(
        self, train: Rows, valid: Rows | None, settled: Mapping[str, Any], stop: Callable[[], bool]
    ) -> dict[str, Any]:
        """Fits one model per strength and keeps the one with the least validation loss.

        Returns:
            {"strength": the chosen one}.
        """
        mean, scale = _statistics(train.features)
        self.remember(mean=torch.from_numpy(mean)[None], scale=torch.from_numpy(scale)[None])
        share = self._shares(scale)
        x, models = self._standardised(train.features) * share, self._models()
        if valid is None or "strength" in settled:
            strength = settled.get("strength", 1.0)
            self._keep(*self._solve(models, x, train, strength), share)
            return {"strength": strength}
        seen = self._standardised(valid.features) * share
        best, chosen = np.inf, STRENGTHS[0]
        for strength in STRENGTHS:
            weight, bias = self._solve(models, x, train, strength)
            loss = self._loss(seen @ weight.T + bias, valid)
            if loss < best:
                best, chosen = loss, strength
                self._keep(weight, bias, share)
            elif loss > WORSE * best:
                break
            if stop():
                break
        return {"strength": chosen}

    def _shares(self, scale: np.ndarray) -> np.ndarray:
        """What standardised columns are multiplied by, so that every input has the same total variance."""
        shares, start = [], 0
        for width in self.widths.values():
            varying = np.count_nonzero(scale[start : start + width])
            shares.append(np.full(width, max(varying, 1) ** -0.5, np.float32))
            start += width
        return np.concatenate(shares)

    def _keep(self, weight: np.ndarray, bias: np.ndarray, share: np.ndarray) -> None:
        self.remember(weight=torch.from_numpy(weight * share).float()[None], bias=torch.from_numpy(bias).float()[None])

    def _standardised(self, features: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found: np.ndarray = self._scaled(torch.from_numpy(features))[0].numpy()
            return found

    def _scaled(self, features: Tensor) -> Tensor:
        """[batch, width] → [models, batch, width]."""
        scaled = (features - self.mean[:, None]) * self.scale[:, None]
        return torch.where(scaled.isnan(), torch.zeros_like(scaled), scaled).clamp(-REACH, REACH)

    def _models(self) -> list[Any]:
        """One model per column of the target; each fit starts from the last one's weights."""
        from sklearn.linear_model import LogisticRegression, Ridge

        if self.target.kind == "number":
            return [Ridge()]
        return [LogisticRegression(max_iter=STEPS, tol=1e-3, warm_start=True) for _ in self._columns]

    @property
    def _columns(self) -> range:
        return range(self.target.size if self.target.kind == "labels" else 1)

    def _solve(self, models: list[Any], x: np.ndarray, rows: Rows, strength: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights [size, width] and bias [size]."""
        from sklearn.exceptions import ConvergenceWarning

        if self.target.kind == "number":
            ridge = models[0].set_params(alpha=1.0 / strength).fit(x, rows.target, sample_weight=rows.weight)
            return np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = []
            for model, at in zip(models, self._columns, strict=True):
                column = rows.target[:, at] if self.target.kind == "labels" else rows.target
                classes = np.unique(column)
                if len(classes) < 2:  # a label that no row, or every row, has
                    found.append((np.zeros((1, x.shape[1])), np.array([10.0 if classes[0] else -10.0])))
                    continue
                model.set_params(C=strength).fit(x, column, sample_weight=rows.weight)
                found.append((model.coef_, model.intercept_))
        weight = np.concatenate([coefficients for coefficients, _ in found])
        bias = np.concatenate([intercept for _, intercept in found])
        if self.target.kind == "labels":
            return weight, bias
        if len(weight) == 1:  # two classes: one logit
            return np.concatenate([np.zeros_like(weight), weight]), np.concatenate([np.zeros(1), bias])
        full, offset = np.zeros((self.target.size, x.shape[1])), np.full(self.target.size, -30.0)
        present = np.unique(rows.target)
        full[present], offset[present] = weight, bias
        return full, offset

    def _loss(self, output: np.ndarray, rows: Rows) -> float:
        """Weighted mean loss of outputs [rows, size]."""
        with torch.no_grad():
            given, target = torch.from_numpy(output).float(), torch.from_numpy(rows.target)
            match self.target.kind:
                case "class":
                    losses = torch.nn.functional.cross_entropy(given, target.long(), reduction="none")
                case "labels":
                    losses = torch.nn.functional.binary_cross_entropy_with_logits(
                        given, target.float(), reduction="none"
                    ).mean(1)
                case _:
                    losses = (given[:, 0] - target.float()) ** 2
            return float((losses.numpy() * rows.weight).mean())

    def forward(self, features: Tensor) -> Tensor:
        """Features [batch, width] → logits, or the number, [batch, size]."""
        return self.each(features).mean(0)

    def each(self, features: Tensor) -> Tensor:
        """What every merged model says of features [batch, width]: [models, batch, size]."""
        return self._scaled(features) @ self.weight.transpose(1, 2) + self.bias[:, None]

    @classmethod
    def merged(cls, learners: Sequence[Linear]) -> Linear:
        """All models side by side in the same tensors."""
        first = learners[0]
        out = cls(first.config, first.widths, first.target)
        out.remember(
            **{name: torch.cat([own.get_buffer(name) for own in learners]) for name, _ in first.named_buffers()}
        )
        return out


def _statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and one over the standard deviation of the known values of each column; 0 for constant columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns without any known value
        mean, deviation = np.nanmean(features, axis=0), np.nanstd(features, axis=0)
    mean = np.nan_to_num(mean).astype(np.float32)
    deviation = np.nan_to_num(deviation)
    return mean, np.where(deviation > 1e-6, 1.0 / np.maximum(deviation, 1e-6), 0.0).astype(np.float32)
