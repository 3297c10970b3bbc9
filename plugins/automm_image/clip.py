"""The two towers of CLIP and SigLIP: pictures and texts in one space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from automm.api import (
    ADAPT,
    DataError,
    Features,
    InputInfo,
    PretrainedEncoder,
    Processor,
    RecipePath,
    find_checkpoint,
    load_checkpoint,
    nn,
    read_checkpoint_json,
    torch,
)
from automm_image.checkpoint import read_preparation
from automm_image.pixels import Pixels
from automm_image.pretrained import drop_unused, split_layers

if TYPE_CHECKING:
    from automm_text.tokens import Tokens

FAMILIES = {"clip": 77, "siglip": 64}
"""Model type → positions of its text tower, unless its config.json says otherwise."""


class ClipEncoder(PretrainedEncoder, abstract=True):
    """What both towers share."""

    preference = 0.5

    class Config(PretrainedEncoder.Config):
        """The checkpoint that holds both towers."""

        checkpoint: Annotated[str, RecipePath()] = ""
        """Folder, or name on the hub ("openai/clip-vit-base-patch32"); name the same one for pictures and texts."""
        adapt: Annotated[str, Field(pattern=ADAPT)] = "none"
        """Which parameters are trained; a tower that is trained alone leaves the space that both share."""

    def _take(self, part: str) -> None:
        """Loads one tower, "vision" or "text", and its projection (SigLIP's is the tower's last layer)."""
        name = self.config.checkpoint
        model = load_checkpoint(find_checkpoint(name), name)
        if not hasattr(model, "vision_model") or not hasattr(model, "text_model"):
            raise DataError(f"checkpoint {name} is a {model.config.model_type}, not a CLIP or SigLIP with two towers")
        projection = {"vision": "visual_projection", "text": "text_projection"}[part]
        self.tower = getattr(model, f"{part}_model")
        self.projection = getattr(model, projection, None) or nn.Identity()

    def _settle(self, arrays: Mapping[str, torch.Tensor]) -> None:
        """Finds the width from a blank batch, and what is not used."""
        with torch.enable_grad():
            tokens = self.extract(arrays).tokens
            drop_unused(self.tower, tokens)
        self.add_head(tokens.shape[2])  # of nothing: the embedding stays where the other tower's are

    def layers(self) -> list[nn.Module]:
        """Embeddings, then every block; the projection belongs to the last one."""
        *early, last = split_layers(self.tower)
        return [*early, nn.ModuleList([last, self.projection])]


class ClipImage(ClipEncoder):
    """The picture tower of CLIP or SigLIP: embeddings in the space of `clip_text`.

    Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision"; Zhai et al. 2023,
    "Sigmoid Loss for Language Image Pre-Training".
    """

    name = "clip_image"
    modality = "image"

    @classmethod
    def processor(cls, config: ClipEncoder.Config, info: InputInfo) -> Pixels:
        """Pictures as the checkpoint's `preprocessor_config.json` asks."""
        del info
        return Pixels.wanted(read_preparation(find_checkpoint(config.checkpoint)))

    def __init__(self, config: ClipEncoder.Config, processor: Processor) -> None:
        super().__init__(config, processor)
        self._take("vision")
        wanted = read_preparation(find_checkpoint(config.checkpoint))
        self.register_buffer("mean", torch.tensor(wanted.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(wanted.std)[:, None, None], persistent=False)
        self._settle({"pixels": torch.zeros(1, wanted.size, wanted.size, 3)})

    def extract(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """Uint8 pixels [batch, size, size, 3] → projected embeddings, not normalised."""
        pixels = arrays["pixels"].permute(0, 3, 1, 2).float() / 255  # [batch, 3, size, size]
        pooled = self.tower(pixel_values=(pixels - self.mean) / self.std).pooler_output
        return Features.vector(self.projection(pooled))


class ClipText(ClipEncoder):
    """The text tower of CLIP or SigLIP: embeddings in the space of `clip_image`."""

    name = "clip_text"
    modality = "text"

    @classmethod
    def processor(cls, config: ClipEncoder.Config, info: InputInfo) -> Tokens:
        """The checkpoint's tokeniser, cut to what the tower has positions for."""
        from automm_text.tokens import Tokens

        del info
        folder = find_checkpoint(config.checkpoint)
        length, pad_id = _text_settings(folder)
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise DataError(f"checkpoint {config.checkpoint} has no tokenizer.json; save its tokeniser as a fast one")
        state = {"tokenizer": file.read_text(encoding="utf-8")}
        return Tokens(Tokens.Config(max_length=length, pad_id=pad_id), state)

    def __init__(self, config: ClipEncoder.Config, processor: Processor) -> None:
        super().__init__(config, processor)
        self._take("text")
        self.length, self.pad_id = _text_settings(find_checkpoint(config.checkpoint))
        # SigLIP reads its embedding off the last of always as many tokens, padding included.
        self.padded = not hasattr(self.tower, "eos_token_id")
        self._settle({"input_ids": torch.full((1, 4), self.pad_id)})

    def extract(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """`input_ids` [batch, time] → projected embeddings, not normalised.

        The attention mask is not needed: CLIP looks backwards only, and SigLIP was trained without one.
        """
        ids = arrays["input_ids"]
        if self.padded:
            filling = ids.new_full((len(ids), self.length), self.pad_id)
            ids = torch.cat([ids, filling], 1)[:, : self.length]
        return Features.vector(self.projection(self.tower(input_ids=ids).pooler_output))


def _text_settings(folder: Path) -> tuple[int, int]:
    """Positions of the text tower, and the id that pads."""
    config = read_checkpoint_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise DataError(f"checkpoint {folder} is a {kind}, not one of {', '.join(FAMILIES)}")
    text: dict[str, Any] = config.get("text_config") or {}
    pad_id = text.get("pad_token_id")
    return int(text.get("max_position_embeddings", FAMILIES[kind])), 1 if pad_id is None else int(pad_id)
