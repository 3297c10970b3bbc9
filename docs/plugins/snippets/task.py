import numpy as np

from automm.api import BadCells, Claim, DataError, Decoder, Features, Metric, TargetInfo, Task, nn, parse_number, torch


class Rate(Decoder):
    """The expected count."""

    op = "acme.rate"
    name = "acme.rate"

    def columns(self):
        return {"prediction": "number"}

    def decode(self, answers):
        return {"prediction": answers["rate"].tolist()}


def mean_error(answers, target):
    return float((answers["rate"] - target).abs().mean())


class Counting(Task):
    """A count: how often something happens."""

    target_kind = "count"

    @classmethod
    def claim(cls, columns):
        if len(columns) != 1 or columns[0].integer_share < 1 or (columns[0].minimum or 0) < 0:
            return None
        return Claim(0.3, "whole numbers from 0 up")

    @classmethod
    def metric_names(cls):
        return {"count_error": False}  # smaller is better

    def fit(self, cells):
        (column, values), *_ = cells.items()
        numbers = [number for number in map(parse_number, values) if number is not None]
        if not numbers:
            raise DataError(f"target column {column!r} holds no counts")
        self.state = {"column": column, "rows": len(numbers), "mean": float(np.mean(numbers))}

    def encode(self, cells):
        numbers = [parse_number(cell) for cell in cells[self.state["column"]]]
        if bad := {row: "the target is no count" for row, n in enumerate(numbers) if n is None or n < 0}:
            raise BadCells(bad)
        return np.array(numbers, np.float32)

    def target(self):
        return TargetInfo("count", size=1, rows=self.state["rows"])

    def head(self, width):
        class Head(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(width, 1)

            def forward(self, joint):  # Features → [batch, 1]
                return self.linear(joint.mean())

        return Head()

    def answer(self, output):
        return {"rate": output[:, 0].float().clamp(max=20).exp()}

    def metrics(self):
        return {"count_error": Metric(maximize=False, compute=mean_error)}

    def decoder(self):
        return Rate(Rate.Config())


task = Counting(Counting.Config())
task.fit({"calls": ["3", "0", "1"]})
coded = task.encode({"calls": ["3", "0"]})  # [rows]
output = task.head(8)(Features.vector(torch.zeros(2, 8)))  # [batch, 1]
answers = task.answer(output)
assert coded.tolist() == [3, 0]
assert task.metrics()["count_error"].compute({"rate": torch.tensor([2.0, 0.0])}, torch.from_numpy(coded)) == 0.5
assert list(task.decoder().decode({name: tensor.detach().numpy() for name, tensor in answers.items()})) == [
    "prediction"
]
