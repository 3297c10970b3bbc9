"""Objectives: training signals beside the loss that need no answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from automm.core.component import Component, ModuleComponent
from automm.core.config import Tune

if TYPE_CHECKING:
    import torch

    from automm.core.features import Features


class Objective(ModuleComponent, abstract=True):
    """What encoders and fusion learn from rows alone, without their answers: self-supervision.

    The author writes `__init__(config, widths, joint)` and `forward(inputs, fuse)`. automm trains it together with the
    network, on the training rows and on those of `data.unlabeled`: first alone for `train.pretrain` epochs, then beside
    the loss. It is no part of the model that is packaged.

    Attributes:
        preference: `objective: any` lists objectives with a higher preference first.
    """

    kind = "objective"
    preference: ClassVar[float] = 0.0

    class Config(Component.Config):
        """Fields of every objective."""

        weight: Annotated[float, Field(gt=0), Tune(0.1, 3.0, log=True)] = 1.0
        """What it counts in training, where the loss counts 1."""

    def __init__(self, config: Any, widths: Mapping[str, int], joint: int) -> None:
        """Makes the layers that it needs beside the network.

        Args:
            config: Its configuration.
            widths: Input → width of its features.
            joint: Width of the joint vector.
        """
        del widths, joint
        super().__init__()
        self.config = config

    def forward(
        self, inputs: Mapping[str, Features], fuse: Callable[[Mapping[str, Features]], torch.Tensor]
    ) -> torch.Tensor:
        """One value per row, which training makes smaller.

        A row may be compared with the others of its batch. A row that tells nothing (it lacks the inputs that would be
        compared, say) gives 0.

        Args:
            inputs: Input → features as the fusion gets them: a missing one is an all-False mask over zeros.
            fuse: The network's fusion: all inputs, some of them masked if you like, to joint vectors [batch, joint].

        Returns:
            Float tensor [batch].
        """
        raise NotImplementedError
