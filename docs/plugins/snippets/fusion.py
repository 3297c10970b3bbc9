from typing import Annotated

from automm.api import Features, Fusion, Tune, nn, torch


class Strongest(Fusion):
    """The largest of the present inputs in every feature, each input projected to a common width."""

    class Config(Fusion.Config):
        """Settings."""

        hidden: Annotated[int, Tune(choices=[64, 128])] = 64
        """Width of the joint features."""

    def __init__(self, config, widths):
        super().__init__(config, widths)
        self.width = config.hidden
        self.project = nn.ModuleList([nn.Linear(width, config.hidden) for width in widths.values()])

    def forward(self, inputs):
        vectors = [p(f.mean()).tanh() for p, f in zip(self.project, inputs.values(), strict=True)]
        present = torch.stack([f.present for f in inputs.values()], 1)[..., None]  # [batch, inputs, 1]
        return Features.vector(torch.stack(vectors, 1).masked_fill(~present, -1.0).amax(1))


words = Features(torch.randn(4, 7, 32), torch.ones(4, 7).bool())  # [batch, time, width], [batch, time]
photo = Features(torch.zeros(4, 1, 16), torch.zeros(4, 1).bool())  # no row has a photo
fusion = Strongest(Strongest.Config(), {"words": 32, "photo": 16})
joint = fusion({"words": words, "photo": photo})
assert joint.tokens.shape == (4, 1, 64)  # one vector per row
assert torch.allclose(joint.mean(), fusion.project[0](words.mean()).tanh())  # the missing photo does not matter
