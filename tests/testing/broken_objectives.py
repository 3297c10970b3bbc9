"""A sound objective, and one broken objective per check."""

from typing import Annotated

import numpy as np
from broken import breaks

from automm.api import F, Features, Objective, Tune, nn, torch


class SoundObjective(Objective):
    """The joint vector must tell every input's mean."""

    def __init__(self, config, widths, joint):
        super().__init__(config, widths, joint)
        self.tell = nn.ModuleDict({name: nn.Linear(joint, width) for name, width in widths.items()})

    def forward(self, inputs, fuse):
        joint = fuse(inputs)
        errors = [
            (self.tell[name](joint) - features.mean()).square().mean(1) * features.present
            for name, features in inputs.items()
        ]
        return torch.stack(errors).sum(0)


@breaks("one_value_per_row", r"an objective gives one value per row: \[\] for 16 rows")
class MeanObjective(SoundObjective):
    """Averages itself."""

    def forward(self, inputs, fuse):
        return super().forward(inputs, fuse).mean()


@breaks("any_input_may_be_missing", "a row without any input must give 0")
class Everywhere(SoundObjective):
    """Counts what is missing, too."""

    def forward(self, inputs, fuse):
        return super().forward(inputs, fuse) + 1


@breaks("missing_tokens_do_not_matter", "masked tokens must not matter")
class LooksBehindMasks(SoundObjective):
    """Adds up all tokens."""

    def forward(self, inputs, fuse):
        return super().forward(inputs, fuse) + sum(tokens.sum((1, 2)) for tokens, _ in inputs.values())


@breaks("padding_does_not_matter", "padding must not matter")
class CountsPadding(SoundObjective):
    """Divides by the padded length."""

    def forward(self, inputs, fuse):
        return super().forward(inputs, fuse) / inputs["words"].mask.shape[1]


@breaks("small_batches_work", "a batch of 1: 1 values are NaN or infinite")
class NeedsABatch(SoundObjective):
    """Divides by the deviation over the batch."""

    def forward(self, inputs, fuse):
        return super().forward(inputs, fuse) / fuse(inputs).var(0, unbiased=False).mean()


@breaks("one_input_is_told", "unsuited must say so")
class NeedsTwo(SoundObjective):
    """Compares two inputs, and gives 0 for one."""

    def forward(self, inputs, fuse):
        return super().forward(inputs, fuse) if len(inputs) > 1 else torch.zeros(len(inputs["words"].mask))


@breaks("gradients_reach_features_and_parameters", "no gradient reaches the features")
class Detached(SoundObjective):
    """Trains itself only."""

    def forward(self, inputs, fuse):
        with torch.no_grad():
            joint = fuse(inputs)
        known = {name: Features(tokens.detach(), mask) for name, (tokens, mask) in inputs.items()}
        return super().forward(known, lambda _: joint)


@breaks("works_in_half_precision", "in bfloat16: .* values are NaN or infinite")
class Overflows(SoundObjective):
    """Is too exact for bfloat16."""

    def forward(self, inputs, fuse):
        values = super().forward(inputs, fuse)
        rough = F.linear(fuse(inputs), torch.eye(5)).dtype == torch.bfloat16
        return values / (0 if rough else 1)


@breaks("random_numbers_are_torch_s", "draw with torch")
class OtherDice(SoundObjective):
    """Draws with a generator of its own."""

    dice = np.random.default_rng(0)

    def forward(self, inputs, fuse):
        return super().forward(inputs, fuse) * self.dice.random()


@breaks("minds_its_own_business", "objective: it changes the global random state of numpy.random")
class SeedsNumpy(SoundObjective):
    """Seeds NumPy."""

    def __init__(self, config, widths, joint):
        super().__init__(config, widths, joint)
        np.random.seed(0)


@breaks("leaves_inputs_alone", "forward must not change its inputs")
class Doubles(SoundObjective):
    """Changes its inputs in place."""

    def forward(self, inputs, fuse):
        inputs["words"].tokens.mul_(2)
        return super().forward(inputs, fuse)


@breaks("copies_and_reloads", "a new instance with this state_dict must give the same numbers")
class CountsInstances(SoundObjective):
    """Counts its instances outside its state."""

    made = 0

    def __init__(self, config, widths, joint):
        super().__init__(config, widths, joint)
        CountsInstances.made += 1
        self.factor = CountsInstances.made

    def forward(self, inputs, fuse):
        return self.factor * super().forward(inputs, fuse)


@breaks("search_space_works", r"with Config\(weight=0.1, scale=0.0\)")
class DividesByScaleObjective(SoundObjective):
    """Fails at the end of its range."""

    class Config(Objective.Config):
        """A scale that may be 0."""

        scale: Annotated[float, Tune(0.0, 1.0)] = 1.0
        """Divisor."""

    def forward(self, inputs, fuse):
        return super().forward(inputs, fuse) / self.config.scale


@breaks("learns_a_planted_signal", "what is planted in all inputs must be learned")
class LearnsNothing(SoundObjective):
    """Rewards nothing that is in the inputs."""

    def forward(self, inputs, fuse):
        return 0.0 * super().forward(inputs, fuse) + 1
