import numpy as np

from automm.api import ArraySpec, BadCell, Processor


class Rgb(Processor):
    """A colour's red, green and blue, 0 to 1."""

    op = "acme.rgb"
    name = "acme.rgb"

    def specs(self):
        return {"rgb": ArraySpec("float32", (3,))}

    def load(self, cell):
        try:
            return {"rgb": np.frombuffer(bytes.fromhex(cell.removeprefix("#")), np.uint8)[:3] / np.float32(255)}
        except (AttributeError, ValueError):
            raise BadCell(f"{cell!r} is no colour such as #ff8800") from None


arrays = Rgb(Rgb.Config())(["#ff0000", None])
assert arrays["rgb"].shape == (2, 3)  # [batch, 3]; the missing cell is blank
assert arrays["rgb"].tolist() == [[1, 0, 0], [0, 0, 0]]
