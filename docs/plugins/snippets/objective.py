from automm.api import F, Features, Objective, nn, torch


class Agreement(Objective):
    """Every input of a row, projected, is to point where the joint vector points."""

    def __init__(self, config, widths, joint):
        super().__init__(config, widths, joint)
        self.project = nn.ModuleList([nn.Linear(width, joint) for width in widths.values()])

    def forward(self, inputs, fuse):
        joint = fuse(inputs)
        away = [
            (1 - F.cosine_similarity(project(features.mean()), joint)) * features.present
            for project, features in zip(self.project, inputs.values(), strict=True)
        ]
        return torch.stack(away).sum(0)


words = Features(torch.randn(4, 7, 32), torch.ones(4, 7).bool())  # [batch, time, width], [batch, time]
photo = Features(torch.zeros(4, 1, 16), torch.zeros(4, 1).bool())  # no row has a photo
objective = Agreement(Agreement.Config(weight=0.1), {"words": 32, "photo": 16}, joint=8)
values = objective({"words": words, "photo": photo}, lambda inputs: inputs["words"].mean()[:, :8])
assert values.shape == (4,)  # one value per row, no answers needed
