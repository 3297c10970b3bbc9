"""A sound loss, and one broken loss per check."""

from typing import Annotated

import numpy as np
from broken import breaks

from automm.api import (
    Loss,
    Tune,
    torch,
)


class SoundLoss(Loss):
    """Squared error."""

    targets = frozenset({"number"})

    def forward(self, output, target):
        return (output[:, 0] - target).square()


@breaks("one_value_per_row", r"a loss gives one value per row: \[\] for 12 rows")
class Reduced(SoundLoss):
    """Averages itself."""

    def forward(self, output, target):
        return super().forward(output, target).mean()


@breaks("rows_are_independent", "a row alone must have the same loss")
class Normalised(SoundLoss):
    """Divides by the batch's mean."""

    def forward(self, output, target):
        values = super().forward(output, target)
        return values / values.mean()


@breaks("worse_outputs_cost_more", "descent on the loss must improve the metric")
class Reversed(SoundLoss):
    """Rewards errors."""

    def forward(self, output, target):
        return -super().forward(output, target)


@breaks("is_finite_in_half_precision", "outputs of torch.float32 times 10000")
class Explosive(SoundLoss):
    """Overflows."""

    def forward(self, output, target):
        return (output[:, 0] - target).abs().exp()


@breaks("gradients_reach_outputs", "a row's output gets no gradient")
class Dead(SoundLoss):
    """Has no gradient where the error is small."""

    def forward(self, output, target):
        return (super().forward(output, target) - 1).clamp(min=0)


@breaks("eval_is_deterministic", "eval mode must be deterministic")
class NoisyLoss(SoundLoss):
    """Adds noise."""

    def forward(self, output, target):
        return super().forward(output, target) + torch.rand(len(output))


@breaks("two_ranks_agree_with_one", "two ranks must agree with one: gradient of output")
class Relative(SoundLoss):
    """Divides by the largest error of the batch."""

    def forward(self, output, target):
        values = super().forward(output, target)
        return values / values.max()


@breaks("minds_its_own_business", "loss: it changes the global random state of numpy.random")
class Reseeding(SoundLoss):
    """Seeds NumPy."""

    def __init__(self, config, target):
        super().__init__(config, target)
        np.random.seed(0)


@breaks("leaves_inputs_alone", "forward must not change output or target")
class InPlaceLoss(SoundLoss):
    """Changes the target in place."""

    def forward(self, output, target):
        return super().forward(output, target.mul_(2))


@breaks("copies_and_reloads", "a new instance with this state_dict must give the same numbers")
class SecretLoss(SoundLoss):
    """Counts its instances outside its state."""

    made = 0

    def __init__(self, config, target):
        super().__init__(config, target)
        SecretLoss.made += 1
        self.weight = SecretLoss.made

    def forward(self, output, target):
        return self.weight * super().forward(output, target)


@breaks("search_space_works", r"with Config\(scale=0.0\)")
class DividesByScaleLoss(SoundLoss):
    """Fails at the end of its range."""

    class Config(Loss.Config):
        """A scale that may be 0."""

        scale: Annotated[float, Tune(0.0, 1.0)] = 1.0
        """Divisor."""

    def forward(self, output, target):
        return super().forward(output, target) / self.config.scale
