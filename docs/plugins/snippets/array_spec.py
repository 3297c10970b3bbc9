import numpy as np

from automm.api import ArraySpec, collate

specs = {"words": ArraySpec("int64", ("time",), pad=-1)}  # the length varies by row
batch = collate([{"words": np.array([4, 7, 2])}, {"words": np.array([5])}], specs)
assert batch["words"].tolist() == [[4, 7, 2], [5, -1, -1]]
