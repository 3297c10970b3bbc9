"""Encoders over checkpoints of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from automm.core.config import RecipePath
from automm.core.features import Features
from automm.core.kinds import Encoder
from automm.core.lazy import LazyModule
from automm.core.profile import Context
from automm.errors import DataError

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch, nn = LazyModule("torch"), LazyModule("torch.nn")


class PretrainedEncoder(Encoder, abstract=True):
    """An encoder over a checkpoint: the checkpoint is `extract`, and what is new on top of it is `complete`.

    The author writes `processor`, `extract(arrays)`, `layers()` and `__init__`, which loads the checkpoint and calls
    `add_head`. Under `adapt: none` what `extract` gives is computed once per cell.
    """

    class Config(Encoder.Config):
        """Fields of every encoder over a checkpoint."""

        checkpoint: Annotated[str, RecipePath()] = ""
        """Folder, or name on the hub ("org/name")."""

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """Needs a checkpoint."""
        del context
        return None if config.checkpoint else "no checkpoint named"

    @classmethod
    def pretrained(cls, config: Any) -> bool:
        """Always."""
        del config
        return True

    @classmethod
    def extracts(cls, config: Any) -> bool:
        """Under `adapt: none` the checkpoint is never trained."""
        return bool(config.adapt == "none")

    def add_head(self, width: int, *, attention: bool = False, project: int | None = None) -> None:
        """Adds what is new on top of the checkpoint, and sets `self.width`.

        Args:
            width: Width of the tokens that `extract` gives.
            attention: Whether the tokens are pooled by learned weights.
            project: Width of a new linear layer; None or 0 for none.
        """
        self.attention = nn.Linear(width, 1) if attention else None
        self.project = nn.Linear(width, project) if project else None
        self.width = project or width

    def complete(self, features: Features) -> Features:
        """Learned attention over the tokens and the projection, where there are any."""
        if self.attention is not None:
            # Finite, so that a graph in half precision stays free of NaN.
            scores = self.attention(features.tokens)[..., 0].masked_fill(~features.mask, -1e4)  # [batch, time]
            features = Features.vector((scores.softmax(1)[..., None] * features.tokens).sum(1))
        if self.project is not None:
            features = Features(self.project(features.tokens), features.mask)
        return features

    def fresh(self) -> list[nn.Module]:
        """The attention and the projection, where there are any."""
        return [module for module in (self.attention, self.project) if module is not None]


def load_checkpoint(folder: Path, name: str) -> Any:
    """The model of a checkpoint, in 32 bit, from safetensors and without running code of its own.

    Args:
        folder: The checkpoint's folder.
        name: What messages call it.

    Raises:
        DataError: If transformers cannot load it: its weights are missing, damaged or no safetensors, say.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as problem:
        raise DataError(f"checkpoint {name} cannot be loaded: {problem}") from None
    finally:
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
