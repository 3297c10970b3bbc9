"""Pretrained vision encoders of Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from automm.api import ADAPT, Context, DataError, Encoder, Features, InputInfo, Processor, RecipePath, Tune, nn, torch
from automm_image.checkpoint import find_checkpoint, read_preparation
from automm_image.pixels import Pixels


class HfImage(Encoder):
    """A vision encoder of transformers: ViT, DeiT, Swin, DINOv2, ConvNeXt, ResNet, the picture half of CLIP and SigLIP.

    The checkpoint is a local folder or a name of the hub; code in it is never run, and only safetensors are read. Size,
    cropping and normalisation of the pictures come from its `preprocessor_config.json`.
    """

    name = "hf_image"
    modality = "image"
    preference = 2.0

    class Config(Encoder.Config):
        """The checkpoint and what is taken from it."""

        checkpoint: Annotated[str, RecipePath()] = ""
        """Folder, or name on the hub ("facebook/dinov2-small")."""
        pooling: Annotated[Literal["cls", "mean", "tokens"], Tune(choices=["cls", "mean"])] = "cls"
        """`cls`: the class token, or the mean where the architecture has none; `mean`: of all patches; `tokens`: all
        patches, for a fusion that attends to them."""
        adapt: Annotated[str, Field(pattern=ADAPT)] = "last_2"
        """Which parameters are trained: `none` (frozen), `last_N` (the last N layers) or `full`."""

    @classmethod
    def unsuited(cls, context: Context, config: Config) -> str | None:
        """Needs a checkpoint."""
        del context
        return None if config.checkpoint else "no checkpoint named"

    @classmethod
    def pretrained(cls, config: Config) -> bool:
        """Always."""
        del config
        return True

    @classmethod
    def processor(cls, config: Config, info: InputInfo) -> Pixels:
        """Pictures as the checkpoint's `preprocessor_config.json` asks."""
        del info
        wanted = read_preparation(find_checkpoint(config.checkpoint))
        return Pixels(Pixels.Config(size=wanted.size, fit=wanted.fit, zoom=wanted.zoom, resample=wanted.resample))

    def __init__(self, config: Config, processor: Processor) -> None:
        super().__init__(config, processor)
        folder = find_checkpoint(config.checkpoint)
        wanted = read_preparation(folder)
        self.register_buffer("mean", torch.tensor(wanted.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(wanted.std)[:, None, None], persistent=False)
        self.backbone = _load(str(folder), config.checkpoint)
        names = [name for name, _ in self.backbone.named_parameters()]
        self.class_token = any(name.endswith(("cls_token", "class_embedding", "class_token")) for name in names)
        self.patches = 0
        try:
            states = self._states(torch.zeros(1, 3, wanted.size, wanted.size))
        except (ValueError, RuntimeError, TypeError) as problem:
            raise DataError(f"checkpoint {config.checkpoint}: cannot encode pictures: {problem}") from None
        side = _patch_size(self.backbone.config)
        # Class, register and distillation tokens stand before the patches.
        self.patches = min((wanted.size // side) ** 2, states.shape[1]) if self.class_token else states.shape[1]
        self.width = states.shape[2]

    def forward(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """Uint8 pixels [batch, size, size, 3] → features."""
        pixels = arrays["pixels"].permute(0, 3, 1, 2).float() / 255  # [batch, 3, size, size]
        states = self._states((pixels - self.mean) / self.std)  # [batch, time, width]
        if self.config.pooling == "cls" and self.class_token:
            return Features.vector(states[:, 0])
        states = states[:, -self.patches :]
        if self.config.pooling == "tokens":
            return Features(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device))
        return Features.vector(states.mean(1))

    def _states(self, pixels: torch.Tensor) -> torch.Tensor:
        """The last hidden states, [batch, time, width]."""
        states = self.backbone(pixel_values=pixels).last_hidden_state
        if states.ndim == 4:  # convolutional: [batch, width, height, width]
            return states.flatten(2).mT
        # CLIP normalises only what it pools; the patches need it just as much.
        return self.backbone.post_layernorm(states) if self._normalises_late else states

    @property
    def _normalises_late(self) -> bool:
        return self.class_token and hasattr(self.backbone, "post_layernorm")

    def layers(self) -> list[nn.Module]:
        """What stands before the blocks, then every block; what follows them belongs to the last one."""
        found = _largest_list(self.backbone)
        if found is None:
            return list(self.backbone.children())
        path, blocks = found
        before, after, here = [], [], self.backbone
        for step in path.split("."):
            names = [name for name, _ in here.named_children()]
            at = names.index(step)
            children = list(here.children())
            before += children[:at]
            after += children[at + 1 :]
            here = children[at]
        *early, last = blocks
        return [nn.ModuleList(before), *early, nn.ModuleList([last, *after])]


def _load(folder: str, name: str) -> nn.Module:
    """The vision part of a checkpoint, in 32 bit."""
    from transformers import AutoModel
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model: Any = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as problem:
        raise DataError(f"checkpoint {name} cannot be loaded: {problem}") from None
    finally:
        if bars:
            logging.enable_progress_bar()
    model = getattr(model, "vision_model", model)
    if model.main_input_name != "pixel_values":
        raise DataError(f"checkpoint {name} is a {model.config.model_type}, which does not take pictures")
    return model


def _patch_size(config: Any) -> int:
    side = getattr(config, "patch_size", 1)
    return int(side[0] if isinstance(side, list | tuple) else side)


def _largest_list(model: nn.Module) -> tuple[str, nn.ModuleList] | None:
    """Path and list of the blocks: the outermost `ModuleList` with most of the parameters."""
    total = sum(p.numel() for p in model.parameters())
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and 2 * sum(p.numel() for p in module.parameters()) > total:
            return path, module
    return None
