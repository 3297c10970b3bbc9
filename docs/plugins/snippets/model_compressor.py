from typing import Annotated

from pydantic import Field

from automm.api import ModelCompressor, NotCompressible, Tune, nn, torch


class LowRank(ModelCompressor):
    """Linear layers as products of two narrow ones, by singular values."""

    class Config(ModelCompressor.Config):
        """Settings."""

        share: Annotated[float, Field(gt=0, lt=0.5), Tune(0.1, 0.4)] = 0.25
        """Share of the singular values that are kept."""

    def shrink(self, model, batches):
        places = [
            (parent, name, layer)
            for parent in model.modules()
            for name, layer in parent.named_children()
            if type(layer) is nn.Linear and min(layer.weight.shape) >= 16
        ]
        if not places:
            raise NotCompressible("no linear layer is wide enough")
        for parent, name, layer in places:
            left, values, right = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
            rank = max(1, int(self.config.share * len(values)))
            first = nn.Linear(layer.in_features, rank, bias=False)
            second = nn.Linear(rank, layer.out_features, bias=layer.bias is not None)
            with torch.no_grad():
                first.weight.copy_(right[:rank])
                second.weight.copy_(left[:, :rank] * values[:rank])
                if layer.bias is not None:
                    second.bias.copy_(layer.bias)
            setattr(parent, name, nn.Sequential(first, second))


model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
before = sum(p.numel() for p in model.parameters())
LowRank(LowRank.Config()).shrink(model, [])
assert sum(p.numel() for p in model.parameters()) < 0.6 * before
assert model(torch.zeros(5, 64)).shape == (5, 2)
