from automm.api import F, Loss, TargetInfo, torch


class Poisson(Loss):
    """Negative log-likelihood of counts, without the part that no output changes."""

    targets = frozenset({"count"})

    def forward(self, output, target):
        return F.poisson_nll_loss(output[:, 0].float(), target, log_input=True, reduction="none")


loss = Poisson(Poisson.Config(), TargetInfo("count", size=1, rows=100))
values = loss(torch.zeros(3, 1), torch.tensor([0.0, 1.0, 5.0]))  # output [batch, 1], target [batch]
assert values.tolist() == [1.0, 1.0, 1.0]  # one value per row: e^0 - 0 · count
