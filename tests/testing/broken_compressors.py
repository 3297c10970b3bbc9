"""Sound compressors of the three stages, and broken ones."""

from typing import Annotated

import onnx
from broken import breaks

from automm.api import GraphCompressor, ModelCompressor, NotCompressible, StudentCompressor, Tune, nn, torch


class SoundGraph(GraphCompressor):
    """Strips what nobody reads, such as names of nodes."""

    def compress(self, graph, rows):
        model = onnx.load_from_string(graph)
        if not model.graph.initializer:
            raise NotCompressible("the graph has no weights")
        for node in model.graph.node:
            node.name = ""
        del model.graph.value_info[:]
        return model.SerializeToString()


class SoundModel(ModelCompressor):
    """Drops the last blocks."""

    def shrink(self, model, batches):
        if not hasattr(model, "blocks"):
            raise NotCompressible("the model has no blocks")
        model.blocks = model.blocks[:2]


class SoundStudent(StudentCompressor):
    """The heaviest member."""

    def student(self, members, default):
        if "learner" in members[0][1]:
            raise NotCompressible("the model is no network")
        return members[0][1]


@breaks("smaller_graph_answers_alike", "a probability moved by")
class Zeroing(SoundGraph):
    """Forgets the weights."""

    def compress(self, graph, rows):
        model = onnx.load_from_string(super().compress(graph, rows))
        for weight in model.graph.initializer:
            if weight.data_type == onnx.TensorProto.FLOAT:
                weight.raw_data = b"\0" * len(weight.raw_data)
        return model.SerializeToString()


@breaks("smaller_model_can_recover", "parameter lost gets no gradient")
class Losing(SoundModel):
    """Leaves a weight behind that nothing reads."""

    def shrink(self, model, batches):
        super().shrink(model, batches)
        model.lost = nn.Parameter(torch.zeros(3))


@breaks("student_is_a_configuration", "must not change the configurations it is given")
class Editing(SoundStudent):
    """Edits what it is given."""

    def student(self, members, default):
        default["seed"] = 1
        return default


@breaks("says_why_not", "not enough values")
class Crashing(SoundModel):
    """Takes for granted that there are blocks."""

    def shrink(self, model, batches):
        (_, *_) = [module for module in model.children() if isinstance(module, nn.ModuleList)]
        super().shrink(model, batches)


@breaks("search_space_works", r"with Config\(.*share=0.0\)")
class Vanishing(SoundModel):
    """Fails at the end of its range."""

    class Config(SoundModel.Config):
        """What stays."""

        share: Annotated[float, Tune(0.0, 1.0)] = 1.0
        """Of the weights."""

    def shrink(self, model, batches):
        super().shrink(model, batches)
        with torch.no_grad():
            model.head.weight.div_(self.config.share)


@breaks("minds_its_own_business", "compressor: it changes the global random state of torch")
class Fixed(SoundModel):
    """Sets the seed of everybody."""

    def shrink(self, model, batches):
        torch.manual_seed(0)
        super().shrink(model, batches)
