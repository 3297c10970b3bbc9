"""What training shares over components: the recipe's `train:` block. Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from automm.core.config import Config, Tune


class TrainConfig(Config):
    """Training settings."""

    epochs: Annotated[int, Field(ge=1)] = 30
    """Most passes over the training rows; early stopping usually ends sooner. Default: 10 to 60, by number of rows."""
    pretrain: Annotated[int, Field(ge=0)] = 0
    """Passes in the beginning that train on `model.objective` alone; `epochs` follow with the loss beside it."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Rows per step, over all processes. By default 16 to 256, by number of rows."""
    learning_rate: Annotated[float, Field(gt=0), Tune(2e-4, 5e-3, log=True)] = 1e-3
    """Peak learning rate of parameters that start from scratch."""
    pretrained_learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Peak learning rate of parameters that start from pretrained weights."""
    weight_decay: Annotated[float, Field(ge=0), Tune(1e-4, 0.1, log=True)] = 1e-2
    """AdamW weight decay; not applied to biases and norms (Loshchilov & Hutter 2019)."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps with a rising learning rate; a cosine follows."""
    gradient_clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest gradient norm; 0 switches clipping off."""
    patience: Annotated[int, Field(ge=1)] = 6
    """Epochs without a better validation metric before training stops. By default a fifth of the epochs, at least 4."""
    precision: Literal["auto", "32", "bf16"] = "auto"
    """`auto`: bf16 on accelerators that support it, else 32 bit."""
