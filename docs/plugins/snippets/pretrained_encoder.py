import tempfile
from pathlib import Path

import numpy as np

from automm.api import ArraySpec, Features, InputInfo, PretrainedEncoder, Processor, nn, torch


class Hashes(Processor):
    """Words as row numbers of a table of vectors."""

    op = "acme.hashes"
    name = "acme.hashes"

    def specs(self):
        return {"rows": ArraySpec("int64", ("time",)), "mask": ArraySpec("bool", ("time",))}

    def load(self, cell):
        rows = [sum(map(ord, word)) % 100 for word in str(cell).split() or [" "]]
        return {"rows": np.array(rows), "mask": np.ones(len(rows), bool)}


class WordVectors(PretrainedEncoder):
    """Word vectors of a file `vectors.npy`, pooled by learned attention."""

    modality = "text"

    @classmethod
    def processor(cls, config, info):
        return Hashes(Hashes.Config())

    def __init__(self, config, processor):
        super().__init__(config, processor)
        vectors = np.load(Path(config.checkpoint, "vectors.npy"), allow_pickle=False)  # [words, size]
        self.embed = nn.Embedding.from_pretrained(torch.from_numpy(vectors), freeze=False)
        self.add_head(vectors.shape[1], attention=True, project=16)

    def extract(self, arrays):
        return Features(self.embed(arrays["rows"]), arrays["mask"])

    def layers(self):
        return [self.embed]


folder = tempfile.mkdtemp()
np.save(Path(folder, "vectors.npy"), np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32))
config = WordVectors.Config(checkpoint=folder, adapt="none")
processor = WordVectors.processor(config, InputInfo("title", "text", ("title",)))
arrays = {name: torch.from_numpy(array) for name, array in processor(["a red coat", "shoes"]).items()}
encoder = WordVectors(config, processor)
assert WordVectors.extracts(config)  # under `adapt: none` the vectors are looked up once per cell
assert encoder.extract(arrays).tokens.shape == (2, 3, 8)  # [batch, words, size of the vectors]
assert encoder(arrays).tokens.shape == (2, 1, 16)  # after attention and projection
assert encoder.fresh() == [encoder.attention, encoder.project]
