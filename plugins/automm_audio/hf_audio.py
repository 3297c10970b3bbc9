"""Pretrained encoders of sound of Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

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


class HfAudio(PretrainedEncoder):
    """An encoder of sound of transformers: Wav2Vec2, HuBERT, WavLM, Whisper's encoder, AST.

    The checkpoint is a local folder or a name of the hub; code in it is never run, and only safetensors are read. What
    its feature extractor does is done without torch, as its `preprocessor_config.json` says.
    """

    name = "hf_audio"
    modality = "audio"
    preference = 2.0

    class Config(PretrainedEncoder.Config):
        """The checkpoint and what is taken from it."""

        checkpoint: Annotated[str, RecipePath()] = ""
        """Folder, or name on the hub ("facebook/wav2vec2-base")."""
        max_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
        """What is kept of a sound: its first seconds; the cost grows with it."""
        pooling: Annotated[Literal["mean", "cls", "attention", "tokens"], Tune(choices=["mean", "attention"])] = "mean"
        """`mean` of the states that hold sound; `cls`: AST's class tokens (the mean where there are none); `attention`:
        a learned weight for every state; `tokens`: all states, for a fusion that attends to them."""
        adapt: Annotated[str, Field(pattern=ADAPT)] = "last_2"
        """Which parameters are trained: `none` (frozen), `last_N` (the last N layers) or `full`."""

    @classmethod
    def processor(cls, config: Config, info: InputInfo) -> Processor:
        """Sounds as the checkpoint's `preprocessor_config.json` asks."""
        del info
        from automm_audio.checkpoint import make_processor

        return make_processor(find_checkpoint(config.checkpoint), config.max_seconds)

    def __init__(self, config: Config, processor: Processor) -> None:
        super().__init__(config, processor)
        from automm_audio import checkpoint, towers

        folder = find_checkpoint(config.checkpoint)
        kind, model = checkpoint.model_type(folder), load_checkpoint(folder, config.checkpoint)
        self.class_tokens = 0
        if kind in checkpoint.WAVE:
            self.tower: nn.Module = towers.WaveTower(model)
        elif kind == "whisper":
            self.tower = towers.WhisperTower(model)
        else:
            self.tower = towers.AstTower(model, -processor.config.mean / processor.config.scale)
            self.class_tokens = 2
        self.add_head(self.tower.width, attention=config.pooling == "attention")
        try:
            self.extract({name: torch.from_numpy(array[None]) for name, array in processor.blank().items()})
        except (ValueError, RuntimeError, TypeError) as problem:
            raise DataError(f"checkpoint {config.checkpoint}: cannot encode sound: {problem}") from None

    def extract(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """The checkpoint's states: one token where they are only averaged, else all of them."""
        states = self.tower(arrays["wave"] if "wave" in arrays else arrays["bands"], arrays["mask"])
        if self.config.pooling == "cls" and self.class_tokens:
            return Features.vector(states.tokens[:, : self.class_tokens].mean(1))
        states = Features(states.tokens[:, self.class_tokens :], states.mask[:, self.class_tokens :])
        return Features.vector(states.mean()) if self.config.pooling in ("mean", "cls") else states

    def layers(self) -> list[nn.Module]:
        """The checkpoint's layers; the attention over its states belongs to the last."""
        *early, last = self.tower.layers()
        return [*early, nn.ModuleList([last, *self.fresh()])]
