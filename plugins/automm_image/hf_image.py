"""Pretrained vision encoders of Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from automm.api import (
    ADAPT,
    DataError,
    Features,
    InputInfo,
    PretrainedEncoder,
    Processor,
    RecipePath,
    Tune,
    find_checkpoint,
    load_checkpoint,
    nn,
    torch,
)
from automm_image.checkpoint import read_preparation
from automm_image.pixels import Pixels
from automm_image.pretrained import drop_unused, split_layers, vision_part


class HfImage(PretrainedEncoder):
    """A vision encoder of transformers: ViT, DeiT, Swin, DINOv2, ConvNeXt, ResNet, the picture half of CLIP and SigLIP.

    The checkpoint is a local folder or a name of the hub; code in it is never run, and only safetensors are read. Size,
    cropping and normalisation of the pictures come from its `preprocessor_config.json`.
    """

    name = "hf_image"
    modality = "image"
    preference = 2.0

    class Config(PretrainedEncoder.Config):
        """The checkpoint and what is taken from it."""

        checkpoint: Annotated[str, RecipePath()] = ""
        """Folder, or name on the hub ("facebook/dinov2-small")."""
        pooling: Annotated[Literal["cls", "mean", "attention", "tokens"], Tune(choices=["cls", "mean"])] = "cls"
        """`cls`: the class token, or what the checkpoint pools where it has none; `mean`: of all patches; `attention`:
        their mean by learned weights; `tokens`: all patches, for a fusion that attends to them."""
        project: Annotated[int, Field(ge=0)] = 0
        """Width of a new layer on top, which is trained whatever `adapt` says; 0 for none."""
        adapt: Annotated[str, Field(pattern=ADAPT)] = "last_2"
        """Which parameters are trained: `none` (frozen), `last_N` (the last N layers) or `full`."""

    @classmethod
    def processor(cls, config: Config, info: InputInfo) -> Pixels:
        """Pictures as the checkpoint's `preprocessor_config.json` asks."""
        del info
        return Pixels.wanted(read_preparation(find_checkpoint(config.checkpoint)))

    def __init__(self, config: Config, processor: Processor) -> None:
        super().__init__(config, processor)
        folder = find_checkpoint(config.checkpoint)
        wanted = read_preparation(folder)
        self.register_buffer("mean", torch.tensor(wanted.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(wanted.std)[:, None, None], persistent=False)
        self.backbone = vision_part(load_checkpoint(folder, config.checkpoint), config.checkpoint)
        names = [name for name, _ in self.backbone.named_parameters()]
        self.class_token = any(name.endswith(("cls_token", "class_embedding", "class_token")) for name in names)
        self.side = _patch_size(self.backbone.config)
        blank = {"pixels": torch.zeros(1, wanted.size, wanted.size, 3)}
        with torch.enable_grad():
            try:
                tokens = self.extract(blank).tokens
            except (ValueError, RuntimeError, TypeError, IndexError) as problem:
                raise DataError(f"checkpoint {config.checkpoint}: cannot encode pictures: {problem}") from None
            drop_unused(self.backbone, tokens)
        self.add_head(tokens.shape[2], attention=config.pooling == "attention", project=config.project)

    def extract(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """Uint8 pixels [batch, size, size, 3] → what the checkpoint makes of them, pooled unless that is learned."""
        pixels = arrays["pixels"].permute(0, 3, 1, 2).float() / 255  # [batch, 3, size, size]
        output = self.backbone(pixel_values=(pixels - self.mean) / self.std)
        if self.config.pooling == "cls" and not self.class_token:
            pooled = getattr(output, "pooler_output", None)
            if pooled is not None:
                return Features.vector(pooled.flatten(1))
        states = self._states(output.last_hidden_state)  # [batch, time, width]
        if self.config.pooling == "cls" and self.class_token:
            return Features.vector(states[:, 0])
        if self.class_token:  # class, register and distillation tokens stand before the patches
            patches = (pixels.shape[2] // self.side) * (pixels.shape[3] // self.side)
            states = states[:, -min(patches, states.shape[1]) :]
        if self.config.pooling in ("tokens", "attention"):
            return Features(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device))
        return Features.vector(states.mean(1))

    def _states(self, states: torch.Tensor) -> torch.Tensor:
        """Last hidden states as tokens, [batch, time, width]."""
        if states.ndim == 4:  # convolutional: [batch, width, height, width]
            return states.flatten(2).mT
        # CLIP normalises only what it pools; the patches need it just as much.
        late = self.class_token and hasattr(self.backbone, "post_layernorm")
        return self.backbone.post_layernorm(states) if late else states

    def layers(self) -> list[nn.Module]:
        """What stands before the blocks, then every block; what follows them belongs to the last one."""
        *early, last = split_layers(self.backbone)
        return [*early, nn.ModuleList([last, *self.fresh()])]


def _patch_size(config: Any) -> int:
    side = getattr(config, "patch_size", 1)
    return int(side[0] if isinstance(side, list | tuple) else side)
