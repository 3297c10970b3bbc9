"""Pretrained video encoders of Hugging Face transformers."""

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
    nn,
    torch,
)
from automm_video.checkpoint import load_model, read_preparation
from automm_video.frames import Frames


class HfVideo(PretrainedEncoder):
    """A video encoder of transformers: VideoMAE, ViViT, TimeSformer, V-JEPA 2.

    The checkpoint is a local folder or a name of the hub; code in it is never run, and only safetensors are read.
    Number, size, cropping and normalisation of the frames come from its configuration; the frames are taken evenly.
    """

    name = "hf_video"
    modality = "video"
    preference = 3.0

    class Config(PretrainedEncoder.Config):
        """The checkpoint and what is taken from it."""

        checkpoint: Annotated[str, RecipePath()] = ""
        """Folder, or name on the hub ("MCG-NJU/videomae-small-finetuned-kinetics")."""
        pooling: Annotated[Literal["mean", "cls", "attention", "tokens"], Tune(choices=["mean", "attention"])] = "mean"
        """`mean` of all patches; `cls`: the class token (the mean where there is none); `attention`: a learned weight
        for every patch; `tokens`: all patches, for a fusion that attends to them."""
        adapt: Annotated[str, Field(pattern=ADAPT)] = "none"
        """What is trained: `none` (the checkpoint is read once per clip), `last_N` (the last N layers), `lora`
        (adapters; `lora_R`: of rank R) or `full`."""

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Frames:
        """Frames as the checkpoint's `preprocessor_config.json` asks."""
        del info
        return Frames(read_preparation(find_checkpoint(config.checkpoint)).frames)

    def __init__(self, config: Any, processor: Processor) -> None:
        super().__init__(config, processor)
        folder = find_checkpoint(config.checkpoint)
        wanted = read_preparation(folder)
        self.register_buffer("scale", torch.tensor(wanted.scale)[:, None, None], persistent=False)
        self.register_buffer("shift", torch.tensor(wanted.shift)[:, None, None], persistent=False)
        self.backbone = load_model(folder, config.checkpoint)
        self.class_token = any(name.endswith("cls_token") for name, _ in self.backbone.named_parameters())
        blank = {name: torch.from_numpy(array[None]) for name, array in processor.blank().items()}
        try:
            with torch.no_grad():
                width = self.extract(blank).tokens.shape[2]
        except (ValueError, RuntimeError, TypeError, AttributeError, IndexError) as problem:
            raise DataError(f"checkpoint {config.checkpoint}: cannot encode video: {problem}") from None
        self.add_head(width, attention=config.pooling == "attention")

    def extract(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """Uint8 frames [batch, frames, size, size, 3] → the checkpoint's states, pooled unless that is learned."""
        clip = arrays["frames"].permute(0, 1, 4, 2, 3).float() * self.scale + self.shift
        states = self.backbone(clip).last_hidden_state  # [batch, time, width]
        if self.class_token:
            first, states = states[:, 0], states[:, 1:]
            if self.config.pooling == "cls":
                return Features.vector(first)
        if self.config.pooling in ("mean", "cls"):
            return Features.vector(states.mean(1))
        return Features(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device))

    def layers(self) -> list[nn.Module]:
        """What stands before the blocks, then every block; what follows them belongs to the last one."""
        stacks = [module for module in self.backbone.modules() if isinstance(module, nn.ModuleList)]
        blocks = max(stacks, key=lambda stack: sum(parameter.numel() for parameter in stack.parameters()))
        before: list[nn.Module] = []
        after: list[nn.Module] = self.fresh()
        here: nn.Module = self.backbone
        while here is not blocks:
            children = list(here.children())
            at = next(i for i, child in enumerate(children) if any(m is blocks for m in child.modules()))
            before, after = before + children[:at], children[at + 1 :] + after
            here = children[at]
        *early, last = blocks
        return [nn.ModuleList(before), *early, nn.ModuleList([last, *after])]
