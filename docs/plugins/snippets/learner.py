import numpy as np

from automm.api import Learner, Rows, TargetInfo, torch


class Ridge(Learner):
    """Linear regression with a penalty."""

    targets = frozenset({"number"})

    def fit(self, train, valid, settled, stop):
        strengths = [settled["strength"]] if valid is None else [0.1, 1.0, 10.0]
        best = min(strengths, key=lambda strength: self.error(train, valid or train, strength))
        self.solve(train, best)
        return {"strength": best}  # with it automm fits again on all rows

    def error(self, train, rows, strength):
        self.solve(train, strength)
        found = self(torch.from_numpy(rows.features))[:, 0]
        return float((found - torch.from_numpy(rows.target)).square().mean())

    def solve(self, rows, strength):
        x, y = torch.from_numpy(rows.features).nan_to_num(), torch.from_numpy(rows.target)
        weight = torch.from_numpy(rows.weight)[:, None]
        square = x.T @ (weight * x) + strength * torch.eye(x.shape[1])
        self.remember(slope=torch.linalg.solve(square, x.T @ (weight[:, 0] * y)))

    def forward(self, features):
        return (features.nan_to_num() @ self.slope)[:, None]  # [batch, 1]


x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)  # [rows, width]
y = x @ np.array([1, 2, 0], np.float32)
train, valid = (Rows(x[part], y[part], np.ones(len(x[part]), np.float32)) for part in (slice(150), slice(150, None)))
learner = Ridge(Ridge.Config(), {"table": 3}, TargetInfo("number", size=1, rows=200))
assert learner.fit(train, valid, {}, lambda: False) == {"strength": 0.1}
assert torch.allclose(learner.slope, torch.tensor([1.0, 2.0, 0.0]), atol=0.01)
