"""Compressors: what makes a trained model smaller or faster, at one of three stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from automm.core.component import Component
from automm.errors import AutommError

if TYPE_CHECKING:
    import numpy as np
    import torch


class NotCompressible(AutommError):
    """What a compressor raises when it finds nothing to do; the message is the reason, in a few words."""


class Compressor(Component, abstract=True):
    """Makes a trained model smaller or faster.

    Inherit from `GraphCompressor`, `ModelCompressor` or `StudentCompressor`.

    automm measures what comes out beside the model as it was, on the validation rows, and puts it into the package only
    within the loss that the recipe allows. A compressor that raises costs nothing but its own variant.

    Attributes:
        stage: "student", "model" or "graph"; a chain of compressors goes through them in this order.
        preference: `compress: auto` tries compressors with a higher preference first.
    """

    kind = "compressor"
    stage: ClassVar[str] = ""
    preference: ClassVar[float] = 0.0

    def __init__(self, config: Any) -> None:
        self.config = config


class GraphCompressor(Compressor, abstract=True):
    """Turns the exported ONNX graph into a cheaper one: quantisation, other storage. Needs no torch."""

    stage = "graph"

    def compress(self, graph: bytes, rows: Sequence[Mapping[str, np.ndarray]]) -> bytes:
        """Writes the cheaper graph.

        Args:
            graph: An ONNX model that holds its weights. Names of inputs and outputs must stay, and so must every size
                that varies.
            rows: Some training rows to calibrate on: "slug.array" → [1, …] each, and "slug.present".

        Raises:
            NotCompressible: If there is nothing in the graph that it works on.
        """
        raise NotImplementedError


class Recovery(Component.Config):
    """Fields of the training that follows: the smaller model learns to answer as the full one does."""

    epochs: Annotated[int, Field(ge=0)] = 4
    """Passes over the training rows with the full model as the teacher; fewer if the time ends. 0: none."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Peak learning rate of that training."""


class ModelCompressor(Compressor, abstract=True):
    """Takes parts out of the trained model: pruning, factorisation. automm distils from the full model afterwards."""

    stage = "model"

    class Config(Recovery):
        """Fields of the recovery."""

    def shrink(self, model: torch.nn.Module, batches: Sequence[dict[str, torch.Tensor]]) -> None:
        """Makes the model smaller in place.

        Args:
            model: `forward(batch) -> answers`, a copy in eval mode on the CPU. What its encoders give must keep its
                shape. Its modules are those of any plugin: test what you assume.
            batches: Some training rows as batches, to see which parts matter.

        Raises:
            NotCompressible: If it has no part that can be made smaller.
        """
        raise NotImplementedError


class StudentCompressor(Compressor, abstract=True):
    """Names a smaller model that automm trains to answer as the full one does (Hinton et al. 2015)."""

    stage = "student"

    class Config(Recovery):
        """Fields of the distillation."""

        epochs: Annotated[int, Field(ge=1)] = 20
        """Most passes over the training rows with the full model as the teacher."""
        learning_rate: Annotated[float, Field(gt=0)] = 1e-3
        """Peak learning rate of that training."""

    def student(self, members: Sequence[tuple[float, dict[str, Any]]], default: dict[str, Any]) -> dict[str, Any]:
        """Chooses the student's configuration.

        Args:
            members: Weight and resolved configuration of every model that answers now, the heaviest first. One with the
                key "learner" is no network.
            default: The plan's default network over encoders without pretrained weights.

        Returns:
            The resolved configuration of a network, made from these.

        Raises:
            NotCompressible: If none would be smaller.
        """
        raise NotImplementedError


STAGES = {"student": StudentCompressor, "model": ModelCompressor, "graph": GraphCompressor}
"""Stage → its base class, in the order in which a chain goes through them."""
METHODS = {"student": "student", "model": "shrink", "graph": "compress"}
"""Stage → the method its author writes."""
