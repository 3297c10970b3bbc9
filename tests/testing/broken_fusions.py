"""A sound fusion, and one broken fusion per check."""

from typing import Annotated, Any

import numpy as np
from broken import breaks
from pydantic import ConfigDict, Field, field_validator

from automm.api import (
    Features,
    Fusion,
    Tune,
    nn,
    torch,
)


class Sound(Fusion):
    """Adds the projected inputs; a missing one is a learned vector."""

    class Config(Fusion.Config):
        """Its width."""

        hidden: Annotated[int, Field(ge=1), Tune(choices=[8, 16])] = 16
        """Width of the joint features."""

    def __init__(self, config, widths):
        super().__init__(config, widths)
        self.width = config.hidden
        self.names = list(widths)
        self.project = nn.ModuleList([nn.Linear(width, self.width) for width in widths.values()])
        self.missing = nn.Parameter(torch.randn(len(widths), self.width))

    def pool(self, features):
        return features.mean()

    def forward(self, inputs):
        parts = [
            torch.where(inputs[name].present[:, None], project(self.pool(inputs[name])), missing)
            for name, project, missing in zip(self.names, self.project, self.missing, strict=True)
        ]
        return Features.vector(self.finish(torch.stack(parts).sum(0)))

    def finish(self, joint):
        return joint


@breaks("registers", "name 'Two Words' must be lower case")
class BadName(Sound):
    """Has a name that recipes cannot use."""

    name = "Two Words"


@breaks("is_documented", "fields of Config without a docstring: depth")
class Undocumented(Sound):
    """Says not what its field is."""

    class Config(Sound.Config):
        depth: int = 1


@breaks("config_is_json", "Config changes in JSON")
class Doubling(Sound):
    """Doubles a field whenever it is read."""

    class Config(Sound.Config):
        """Not idempotent."""

        depth: Annotated[int, Field(validate_default=True)] = 1
        """Doubled."""

        @field_validator("depth")
        @classmethod
        def _double(cls, value):
            return 2 * value


@breaks("config_is_strict", "must refuse unknown fields")
class Lax(Sound):
    """Takes any field."""

    class Config(Sound.Config):
        """Open."""

        model_config = ConfigDict(extra="allow")


@breaks("defaults_are_valid", "Config.dropout: the default 1.5 is refused: Input should be less than 1")
class WrongDefault(Sound):
    """Starts outside its own bounds."""

    class Config(Sound.Config):
        """Contradicts itself."""

        dropout: Annotated[float, Field(lt=1), Tune(0.0, 0.5)] = 1.5
        """Share."""


@breaks("search_can_be_replayed", r"asked for \{.*\}, the same parameters again gave")
class Dicing(Sound):
    """Draws a field that the study does not know of."""

    class Config(Sound.Config):
        """Draws its own width."""

        @classmethod
        def suggest(cls, trial, prefix):
            return {"hidden": int(np.random.default_rng().integers(1, 10**9))}


@breaks("editor_knows_its_fields", "Default value .* is not JSON serializable")
class Opaque(Sound):
    """Has a default that no editor can show."""

    class Config(Sound.Config):
        """Takes an object."""

        thing: Any = object()
        """Anything."""


@breaks("search_space_is_valid", r"Tune\(0.0, 2.0\) offers 2.0, which Config refuses: Input should be less than")
class WideRange(Sound):
    """Searches where its field ends."""

    class Config(Sound.Config):
        """Contradicts itself."""

        dropout: Annotated[float, Field(lt=1), Tune(0.0, 2.0)] = 0.1
        """Share."""


@breaks("unsuited_answers", "must give None or a reason, it gave ''")
class Silent(Sound):
    """Gives no reason."""

    @classmethod
    def unsuited(cls, context, config):
        return ""


@breaks("gives_its_width", r"joint tokens where vector are needed: \[16, 1, 16\], width 17")
class WrongWidth(Sound):
    """Declares another width."""

    def __init__(self, config, widths):
        super().__init__(config, widths)
        self.width += 1


@breaks("any_input_may_be_missing", "missing inputs must not give NaN")
class Divides(Sound):
    """Divides by the number of tokens."""

    def forward(self, inputs):
        return Features.vector(sum(f.tokens.sum((1, 2)) / f.mask.sum(1) for f in inputs.values())[:, None])


@breaks("missing_tokens_do_not_matter", "masked tokens must not matter: deviates")
class Unmasked(Sound):
    """Averages padding too."""

    def pool(self, features):
        return features.tokens.mean(1)


@breaks("padding_does_not_matter", "padding must not matter: deviates")
class Diluted(Sound):
    """Masks tokens, but counts them."""

    def pool(self, features):
        return (features.tokens * features.mask[:, :, None]).mean(1)


@breaks("present_inputs_matter", "input 'table' does not reach the joint features")
class Forgetful(Sound):
    """Leaves the last input out."""

    def __init__(self, config, widths):
        super().__init__(config, dict(list(widths.items())[:2]))


@breaks("rows_are_independent", "a row alone must give what it gives in a batch")
class Centred(Sound):
    """Subtracts the mean of the batch."""

    def finish(self, joint):
        return joint - joint.mean(0)


@breaks("row_order_does_not_matter", "rows must not depend on their order")
class Numbered(Sound):
    """Adds the number of the row."""

    def finish(self, joint):
        return joint + torch.arange(len(joint))[:, None]


@breaks("one_input_is_enough", "picture")
class Particular(Sound):
    """Needs an input called picture."""

    def forward(self, inputs):
        return Features.vector(super().forward(inputs).mean() + inputs["picture"].present[:, None])


@breaks("gradients_reach_every_parameter", "parameter unused gets no gradient")
class Idle(Sound):
    """Has a parameter that does nothing."""

    def __init__(self, config, widths):
        super().__init__(config, widths)
        self.unused = nn.Parameter(torch.zeros(3))


@breaks("works_in_half_precision", "in bfloat16: values: 16 values are NaN or infinite")
class Half(Sound):
    """Has no numbers in bfloat16."""

    def finish(self, joint):
        return joint if joint.dtype == torch.float32 and not torch.is_autocast_enabled("cpu") else joint[:, :1] / 0


@breaks("two_ranks_agree_with_one", "two ranks must agree with one: gradient of")
class Whitened(Sound):
    """Divides by the spread of the batch."""

    def finish(self, joint):
        return joint / joint.std()


@breaks("minds_its_own_business", "fusion: it prints to standard output \\('16 rows'\\): use the logging module")
class Chatty(Sound):
    """Prints its progress."""

    def finish(self, joint):
        print(len(joint), "rows")
        return joint


@breaks("leaves_inputs_alone", "forward must not change its inputs")
class InPlace(Sound):
    """Scales its inputs in place."""

    def pool(self, features):
        features.tokens.mul_(2)
        return features.mean()


@breaks("eval_is_deterministic", "eval mode must be deterministic")
class Noisy(Sound):
    """Adds noise in eval mode."""

    def finish(self, joint):
        return joint + torch.randn(joint.shape)


@breaks("copies_and_reloads", "a new instance with this state_dict must give the same numbers")
class Secret(Sound):
    """Keeps random numbers outside its state."""

    def __init__(self, config, widths):
        super().__init__(config, widths)
        self.offset = torch.randn(self.width)

    def finish(self, joint):
        return joint + self.offset


@breaks("search_space_works", r"with Config\(hidden=8, scale=0.0\): \d+ values are NaN")
class DividesByScale(Sound):
    """Fails at the end of its range."""

    class Config(Sound.Config):
        """A scale that may be 0."""

        scale: Annotated[float, Tune(0.0, 1.0)] = 1.0
        """Divisor."""

    def finish(self, joint):
        return joint / self.config.scale


@breaks("learns_a_planted_signal", "a planted signal must be learned: the loss went from")
class Constant(Sound):
    """Says nothing about its inputs."""

    def finish(self, joint):
        return joint * 0


@breaks("exports_a_graph", "cannot be exported")
class Branching(Sound):
    """Decides in Python what depends on the data."""

    def finish(self, joint):
        return joint if joint.sum() > 0 else -joint


@breaks("decisions_add_up", "weights must add to 1")
class Unequal(Sound):
    """Two decisions, of which both count fully."""

    def __init__(self, config, widths):
        super().__init__(config, widths)
        self.decisions = 2

    def forward(self, inputs):
        joint = super().forward(inputs)
        return Features(joint.tokens.repeat(1, 2, 1), joint.mask.repeat(1, 2))

    def weigh(self, joint):
        return joint.mask.float()
