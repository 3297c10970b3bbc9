import numpy as np

from automm.api import ArraySpec, InputInfo, Processor, VectorEncoder, torch


class Sizes(Processor):
    """Characters and words of a text, as logarithms."""

    op = "acme.sizes"
    name = "acme.sizes"

    def specs(self):
        return {"vector": ArraySpec("float32", (2,))}

    def blank(self):
        return {"vector": np.full(2, np.nan, np.float32)}  # nothing is known

    def load(self, cell):
        return {"vector": np.log1p(np.array([len(str(cell)), len(str(cell).split())], np.float32))}


class TextSizes(VectorEncoder):
    """How long a text is."""

    modality = "text"

    @classmethod
    def processor(cls, config, info):
        return Sizes(Sizes.Config())


config = TextSizes.Config(width=16)
processor = TextSizes.processor(config, InputInfo("title", "text", ("title",)))
vector = torch.from_numpy(processor(["a red coat", None])["vector"])  # [batch, 2]; learners read this
features = TextSizes(config, processor).eval()({"vector": vector})
assert features.tokens.shape == (2, 1, 16)  # one token per row, for the network
assert bool(features.tokens.isfinite().all())
