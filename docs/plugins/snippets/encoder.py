from typing import Annotated

import numpy as np

from automm.api import ArraySpec, Encoder, Features, InputInfo, Processor, Tune, nn, torch


class Bytes(Processor):
    """The bytes of a text."""

    op = "acme.bytes"
    name = "acme.bytes"

    def specs(self):
        return {"bytes": ArraySpec("int64", ("time",)), "mask": ArraySpec("bool", ("time",))}

    def load(self, cell):
        data = np.frombuffer(str(cell).encode() or b" ", np.uint8)
        return {"bytes": data.astype(np.int64), "mask": np.ones(len(data), bool)}


class ByteBag(Encoder):
    """An embedding of every byte, one token each."""

    modality = "text"

    class Config(Encoder.Config):
        """Settings."""

        size: Annotated[int, Tune(choices=[16, 32])] = 32
        """Width of the features."""

    @classmethod
    def processor(cls, config, info):
        return Bytes(Bytes.Config())

    def __init__(self, config, processor):
        super().__init__(config, processor)
        self.width = config.size
        self.embed = nn.Embedding(256, config.size)

    def forward(self, arrays):
        tokens = self.embed(arrays["bytes"])  # [batch, time, width]
        return Features(tokens * arrays["mask"][..., None], arrays["mask"])


config = ByteBag.Config()
processor = ByteBag.processor(config, InputInfo("title", "text", ("title",)))
arrays = {name: torch.from_numpy(array) for name, array in processor(["red", "green"]).items()}
features = ByteBag(config, processor)(arrays)
assert features.tokens.shape == (2, 5, 32)  # [batch, time, width], padded to the longest
assert features.mask.sum(1).tolist() == [3, 5]
