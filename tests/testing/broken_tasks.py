"""Broken tasks, modalities and exporters."""

import random
import time
from typing import ClassVar

from automm_tasks import Regression
from automm_tasks.decoders import Number
from broken import breaks
from broken_encoders import toy_examples

from automm.api import (
    Claim,
    Exporter,
    InputInfo,
    Modality,
    TargetInfo,
    nn,
    torch,
)


@breaks("codes_every_row", "a cell alone must be coded as in a batch")
class CentredTask(Regression):
    """Subtracts the mean of what it codes."""

    def encode(self, cells):
        codes = super().encode(cells)
        return codes - codes.mean()


@breaks("describes_its_target", r"target\(\).kind is 'class', not target_kind")
class Mistaken(Regression):
    """Says that its target is something else."""

    def target(self):
        return TargetInfo("class", 1, rows=self.state["rows"])


@breaks("refuses_missing_targets", "encode must raise BadCells for missing targets")
class Imputes(Regression):
    """Makes targets up."""

    def encode(self, cells):
        return super().encode({name: [10 if c is None else c for c in column] for name, column in cells.items()})


@breaks("state_is_json", "set is not JSON serializable")
class ObjectState(Regression):
    """Keeps a Python object as state."""

    def fit(self, cells):
        super().fit(cells)
        self.state["seen"] = {1}


@breaks("head_fits_the_target", r"output \[5, 2\], size 1")
class WideHead(Regression):
    """Has an output too many."""

    def start(self):
        return [0.0, 0.0]


class HalfHead(nn.Module):
    """Loses everything in 16 bits."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, joint):
        return (
            (self.inner(joint).bfloat16() + 3e4).float() - 3e4
            if torch.is_autocast_enabled("cpu")
            else self.inner(joint)
        )


@breaks("works_in_half_precision", r"the head in bfloat16: values deviate by \d+% from those in 32 bit")
class CoarseHead(Regression):
    """Has a head that loses its numbers in 16 bits."""

    def head(self, width):
        return HalfHead(super().head(width))


class FrozenHead(nn.Module):
    """Learns a bias."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, joint):
        return self.bias.expand(len(joint.tokens), 1)


@breaks("learns_a_planted_signal", "the head must learn a planted signal with the loss .*: the loss went from")
class DeafHead(Regression):
    """Has a head that does not listen."""

    def head(self, width):
        return FrozenHead()


@breaks("minds_its_own_business", "task: it prints to standard output")
class Talking(Regression):
    """Prints what it fits."""

    def fit(self, cells):
        print("fitting")
        super().fit(cells)


@breaks("model_target_is_finite", "model_target must be finite")
class Logarithmic(Regression):
    """Takes logarithms of negatives."""

    def model_target(self, target):
        return torch.log(-target)


@breaks("metrics_are_computed", "metric_names gives .*, metrics gives")
class OtherMetrics(Regression):
    """Announces metrics in another order."""

    @classmethod
    def metric_names(cls):
        return dict(reversed(super().metric_names().items()))


class Renamed(Number):
    """Gives a column that it does not declare."""

    def columns(self):
        return {"value": "number"}


class Unregistered(Number):
    """Is no entry point."""

    op = "test.unregistered"


@breaks("decoder_reads_the_answers", r"columns\(\) gives \['value'\], decode \['prediction'\]")
class RenamedColumns(Regression):
    """Has a decoder that contradicts itself."""

    def decoder(self):
        return Renamed(Renamed.Config())


@breaks("decoder_can_be_stored", "'test.unregistered' is not the entry point of Unregistered")
class NoOperation(Regression):
    """Has a decoder that packages cannot name."""

    def decoder(self):
        return Unregistered(Unregistered.Config())


@breaks("search_space_works", "answer 'number' with .*hidden=256")
class NotThatWide(Regression):
    """Fails at the end of its range."""

    def answer(self, output):
        return {"number": output[:, 0] / (256 - self.config.hidden)}


@breaks("exports_a_graph", "cannot be exported")
class BranchingTask(Regression):
    """Decides in Python what depends on the data."""

    def answer(self, output):
        return {"number": output[:, 0] if output.sum() > 0 else -output[:, 0]}


@breaks("claims_are_sane", "column 'price': confidence 2.0")
class TooSure(Modality):
    """Is surer than sure."""

    @classmethod
    def claim(cls, column):
        return Claim(2.0, "certainly") if column.filled else None


@breaks("types_are_names", "the claim's type 'hue' is not among types")
class UnknownType(Modality):
    """Gives a type that it does not have."""

    types: ClassVar = ("colour",)

    @classmethod
    def claim(cls, column):
        return Claim(0.5, "looks like it", "hue") if column.filled else None


@breaks("examples_fit_the_modality", "the same seed must give the same examples")
class Unseeded(Modality):
    """Ignores the seed."""

    @classmethod
    def claim(cls, column):
        return None

    @classmethod
    def examples(cls, count, seed):
        made = toy_examples(count, random.randrange(10**9))
        return made._replace(info=InputInfo("toy", "unseeded", ("toy",)))


@breaks("makes_is_known", "makes is 'paper'")
class Printer(Exporter):
    """Makes something else."""

    makes = "paper"


@breaks("graph_runs_at_every_size", "a graph is one file")
class Littering(Exporter):
    """Leaves another file beside the graph."""

    makes = "graph"

    def export_graph(self, graph, path):
        path.write_bytes(b"")
        path.with_suffix(".log").write_text("done")


@breaks("folder_is_whole_and_repeatable", "two exports of one package differ in made.txt")
class Dated(Exporter):
    """Writes when it was made."""

    def export_package(self, package, folder):
        (folder / "made.txt").write_text(str(time.time_ns()))


@breaks("folder_predicts_as_the_package", "row 0: prediction is null, the package gives")
class Forgetting(Exporter):
    """Loads something else."""

    def export_package(self, package, folder):
        (folder / "made.txt").write_text("")

    def load(self, folder):
        return lambda rows: [{"prediction": None, "probability": 0.0, "total": 0.0, "error": ""} for _ in rows]
