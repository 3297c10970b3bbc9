"""A sound encoder, and one broken encoder or processor per check."""

import random
from typing import Annotated, ClassVar

import numpy as np
from broken import BROKEN, breaks

from automm.api import (
    ArraySpec,
    BadCell,
    Config,
    Encoder,
    Examples,
    Features,
    InputInfo,
    Processor,
    Tune,
    nn,
    torch,
)


def toy_examples(count, seed):
    """Lists of one to six numbers; those of group 1 are larger."""
    draw = random.Random(seed)
    groups = tuple(row % 2 for row in range(count))
    cells = [[round(draw.gauss(4 * group, 1), 3) for _ in range(draw.randint(1, 6))] for group in groups]
    return Examples(InputInfo("toy", "toy", ("toy",)), cells, groups)


class Values(Processor):
    """Lists of numbers, scaled by the largest."""

    op = "test.values"

    def fit(self, chunks):
        self.state = {"largest": max(abs(value) for chunk in chunks for cell in chunk if cell for value in cell)}

    def specs(self):
        return {"values": ArraySpec("float32", ("time",)), "mask": ArraySpec("bool", ("time",))}

    def load(self, cell):
        try:
            values = np.array(cell, np.float32).reshape(-1) / self.state["largest"]
        except (TypeError, ValueError):
            raise BadCell("must be a list of numbers") from None
        if not len(values) or not np.isfinite(values).all():
            raise BadCell("must hold finite numbers")
        return {"values": values, "mask": np.ones(len(values), bool)}


class SoundEncoder(Encoder):
    """One token per number."""

    modality = "toy"
    feeds: ClassVar = Values

    @classmethod
    def processor(cls, config, info):
        return cls.feeds(cls.feeds.Config())

    def __init__(self, config, processor):
        super().__init__(config, processor)
        self.width = 8
        self.embed = nn.Linear(1, 8)
        self.out = nn.Linear(8, 8)

    def forward(self, arrays):
        tokens = self.out(torch.tanh(self.embed(arrays["values"][:, :, None] * 4)))
        return Features(self.finish(tokens, arrays), arrays["mask"])

    def finish(self, tokens, arrays):
        return tokens


def feeding(processor):
    """The sound encoder with another processor."""
    return type(f"{processor.__name__}Encoder", (SoundEncoder,), {"feeds": processor, "__module__": __name__})


def breaks_processor(check, message):
    def note(cls):
        BROKEN.append((feeding(cls), check, message))
        return cls

    return note


@breaks_processor("processor_keeps_its_specs", "array 'values' is float64, specs says float32")
class Doubles(Values):
    """Gives another dtype."""

    def __call__(self, cells):
        arrays = super().__call__(cells)
        return {**arrays, "values": arrays["values"].astype(np.float64)}


@breaks_processor("processor_takes_cells_one_by_one", "a cell alone must give what it gives in a batch")
class BatchScaled(Values):
    """Scales by the batch."""

    def __call__(self, cells):
        arrays = super().__call__(cells)
        return {**arrays, "values": arrays["values"] - arrays["values"].mean(dtype=np.float32)}


@breaks_processor("processor_is_deterministic", "not equal")
class Jittered(Values):
    """Augments at random."""

    def load(self, cell):
        arrays = super().load(cell)
        return {**arrays, "values": arrays["values"] + np.float32(np.random.default_rng().normal())}


@breaks_processor("processor_leaves_missing_cells_blank", "missing cells differ")
class Neighbours(Values):
    """Fills a missing cell with the one before it."""

    def __call__(self, cells):
        filled = list(cells)
        for row, cell in enumerate(filled):
            filled[row] = filled[row - 1] if cell is None and row else cell
        return super().__call__(filled)


@breaks_processor("processor_state_can_be_stored", "state seen: set cannot be stored")
class Objects(Values):
    """Keeps a Python object as state."""

    def fit(self, chunks):
        super().fit(chunks)
        self.state["seen"] = {1, 2}


@breaks_processor("processor_has_an_operation", "limit 'numbers' is 0")
class Limitless(Values):
    """Has a limit that nothing passes."""

    @property
    def limits(self):
        return {"numbers": 0}


@breaks_processor("processor_takes_unseen_values", "array 'values' holds infinity")
class Scaled(Values):
    """Divides by what it knows of a value, which is nothing for a new one."""

    def fit(self, chunks):
        super().fit(chunks)
        self.state["known"] = sorted({value for chunk in chunks for cell in chunk if cell for value in cell})

    def load(self, cell):
        arrays = super().load(cell)
        unknown = np.array([value not in self.state["known"] for value in cell])
        return {**arrays, "values": np.where(unknown, np.float32(np.inf), arrays["values"])}


@breaks_processor(
    "processor_refuses_what_it_cannot_read", "cell '': raised TypeError: .*; raise BadCell with the reason"
)
class Careless(Values):
    """Takes every cell for a list of numbers."""

    def load(self, cell):
        sum(value + 1 for value in cell) + len(cell) + cell[:0]
        return super().load(cell)


@breaks_processor("processor_leaves_cells_alone", "the processor must not change its cells")
class Sorting(Values):
    """Sorts cells in place."""

    def __call__(self, cells):
        for cell in cells:
            if isinstance(cell, list):
                cell.append(0.0)
        return super().__call__(cells)


@breaks_processor(
    "processor_respects_its_limits", "with the limit 'numbers' at 0 the processor reads the examples as before"
)
class Boundless(Values):
    """Declares a limit and forgets it."""

    class Config(Config):
        """A bound."""

        most: int = 100
        """Numbers in a cell."""

    @property
    def limits(self):
        return {"numbers": self.config.most}


@breaks_processor("processor_works_without_torch", "processor Heavy without torch, .*torch")
class Heavy(Values):
    """Uses torch to read a cell."""

    def load(self, cell):
        return {**super().load(cell), "values": torch.tensor(cell).numpy() / self.state["largest"]}


@breaks("gives_its_width", "the mask must be bool, it is torch.float32")
class FloatMask(SoundEncoder):
    """Gives weights for a mask."""

    def forward(self, arrays):
        tokens, mask = super().forward(arrays)
        return Features(tokens, mask.float())


@breaks("rows_are_independent", "a cell alone must give what it gives in a batch")
class PaddingBlind(SoundEncoder):
    """Averages over padding."""

    def finish(self, tokens, arrays):
        return tokens + tokens.mean(1, keepdim=True)


@breaks("row_order_does_not_matter", "rows must not depend on their order")
class NumberedEncoder(SoundEncoder):
    """Adds the number of the row."""

    def finish(self, tokens, arrays):
        return tokens + torch.arange(len(tokens))[:, None, None]


@breaks("missing_cells_are_harmless", "a missing cell must not give NaN")
class DividesByLength(SoundEncoder):
    """Divides by the number of tokens, which is 0 for a missing cell."""

    def finish(self, tokens, arrays):
        return tokens / arrays["mask"].sum(1)[:, None, None]


@breaks("gradients_reach_every_parameter", "training: parameter unused gets no gradient")
class IdleEncoder(SoundEncoder):
    """Has a parameter that does nothing."""

    def __init__(self, config, processor):
        super().__init__(config, processor)
        self.unused = nn.Parameter(torch.zeros(3))


@breaks("works_in_half_precision", r"in bfloat16: values deviate by \d+% from those in 32 bit")
class Subtle(SoundEncoder):
    """Lives on differences that 16 bits do not hold."""

    def finish(self, tokens, arrays):
        return (tokens + 1000.0) * 1.0 - 1000.0


@breaks("two_ranks_agree_with_one", "two ranks must agree with one: gradient of")
class Contrasted(SoundEncoder):
    """Subtracts the mean of the batch."""

    def finish(self, tokens, arrays):
        return tokens - tokens.mean(0)


@breaks("same_cell_gives_same_features", "a cell must give the same features in every batch")
class Positioned(SoundEncoder):
    """Adds something in the middle of a batch."""

    def finish(self, tokens, arrays):
        shift = torch.zeros(len(tokens), 1, 1)
        shift[1::2] = 0.5
        return tokens + shift


@breaks("minds_its_own_business", r"encoder: it changes the global random state of torch: use a generator of its own")
class Seeding(SoundEncoder):
    """Sets the seed of everybody."""

    def __init__(self, config, processor):
        super().__init__(config, processor)
        torch.manual_seed(0)


@breaks("search_space_works", r"width 8, features \[4, \d, 16\]")
class Growing(SoundEncoder):
    """Forgets that its width changes."""

    class Config(SoundEncoder.Config):
        """Its width."""

        size: Annotated[int, Tune(choices=[8, 16])] = 8
        """Of the features."""

    def __init__(self, config, processor):
        super().__init__(config, processor)
        self.out = nn.Linear(8, config.size)


@breaks("layers_hold_every_parameter", r"parameters outside layers\(\): out.weight, out.bias")
class HalfLayered(SoundEncoder):
    """Forgets a layer."""

    def layers(self):
        return [self.embed]


@breaks("leaves_inputs_alone", "forward must not change its arrays")
class InPlaceEncoder(SoundEncoder):
    """Changes its arrays in place."""

    def finish(self, tokens, arrays):
        arrays["values"].zero_()
        return tokens


@breaks("eval_is_deterministic", "eval mode must be deterministic")
class NoisyEncoder(SoundEncoder):
    """Adds noise in eval mode."""

    def finish(self, tokens, arrays):
        return tokens + torch.randn(tokens.shape)


@breaks("frozen_weights_come_from_the_checkpoint", "weights that the checkpoint does not have belong into fresh()")
class UnlistedHeadEncoder(SoundEncoder):
    """Says that it is a checkpoint, and draws weights of its own."""

    @classmethod
    def pretrained(cls, config):
        return True

    @classmethod
    def extracts(cls, config):
        return config.adapt == "none"


@breaks("copies_and_reloads", "a new instance with this state_dict must give the same numbers")
class SecretEncoder(SoundEncoder):
    """Keeps random numbers outside its state."""

    def __init__(self, config, processor):
        super().__init__(config, processor)
        self.offset = torch.randn(8)

    def finish(self, tokens, arrays):
        return tokens + self.offset


@breaks("learns_two_groups", "two groups of examples must be learned")
class ConstantEncoder(SoundEncoder):
    """Says nothing about its cells."""

    def finish(self, tokens, arrays):
        return tokens * 0


@breaks("exports_a_graph", "cannot be exported")
class BranchingEncoder(SoundEncoder):
    """Decides in Python what depends on the data."""

    def finish(self, tokens, arrays):
        return tokens if tokens.sum() > 0 else -tokens
