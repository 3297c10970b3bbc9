"""Any encoder of pictures, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from automm.api import (
    Context,
    Encoder,
    Features,
    InputInfo,
    PluginError,
    Processor,
    RecipePath,
    Tune,
    find_component,
    nn,
    torch,
)
from automm_video.pictures import Pictures


class FrameEncoder(Encoder):
    """Any installed encoder of pictures, shared by all frames of a video, and their mean or a transformer over them.

    With `hf_image` and a checkpoint (ViT, DINOv2, ConvNeXt, …) it needs no video model: `adapt: none` reads every clip
    once. It sees no motion between frames but what the transformer makes of their order.
    """

    name = "frame_encoder"
    modality = "video"
    preference = 0.5

    class Config(Encoder.Config):
        """Which encoder, its configuration, and how frames are joined."""

        encoder: str = ""
        """Name of the encoder of pictures ("hf_image", "small_cnn", …)."""
        checkpoint: Annotated[str, RecipePath()] = ""
        """Its checkpoint, if it takes one: folder, or name on the hub."""
        options: Annotated[dict[str, Any], Field(default_factory=dict)]
        """Other fields of its configuration."""
        frames: Annotated[int, Field(ge=1, le=128), Tune(choices=[4, 8, 16])] = 8
        """Frames of a clip, taken evenly; the cost grows with their number."""
        temporal: Annotated[Literal["mean", "transformer", "tokens"], Tune(choices=["mean", "transformer"])] = "mean"
        """How frames are joined: their mean, a transformer over them, or not at all (`tokens`: for a fusion that
        attends to them)."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.1
        """Of the transformer."""

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """Needs an encoder of pictures that is suited itself."""
        if not config.encoder:
            return "no encoder of pictures named"
        try:
            inner, settings = _inner(config)
        except PluginError as problem:
            return str(problem)
        return inner.unsuited(context, settings)

    @classmethod
    def pretrained(cls, config: Any) -> bool:
        """As the encoder of pictures."""
        inner, settings = _inner(config)
        return inner.pretrained(settings)

    @classmethod
    def extracts(cls, config: Any) -> bool:
        """As the encoder of pictures."""
        inner, settings = _inner(config)
        return inner.extracts(settings)

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Pictures:
        """Frames as the encoder of pictures wants them."""
        inner, settings = _inner(config)
        reader = inner.processor(settings, InputInfo(info.name, inner.modality, info.columns))
        fields = {"reader": reader.op, "reader_version": reader.version, "reader_config": reader.config.model_dump()}
        return Pictures(Pictures.Config(frames=config.frames, **fields), reader.state)

    def __init__(self, config: Any, processor: Processor) -> None:
        super().__init__(config, processor)
        from automm_video.blocks import Temporal

        inner, settings = _inner(config)
        self.inner = inner(settings, processor.reader)
        self.extracted = inner.extract is not Encoder.extract
        self.width = self.inner.width
        self.temporal = Temporal(config.temporal, self.width, config.frames, config.dropout)

    def extract(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """Arrays [batch, frames, …] → the tokens of all frames one after the other, [batch, frames * time, width]."""
        flat = {name: array.flatten(0, 1) for name, array in arrays.items()}
        tokens, mask = self.inner.extract(flat) if self.extracted else self.inner(flat)
        length = self.config.frames * tokens.shape[1]
        return Features(tokens.reshape(-1, length, tokens.shape[2]), mask.reshape(-1, length))

    def complete(self, features: Features) -> Features:
        """The tokens of all frames → features."""
        tokens, mask = features
        time = tokens.shape[1] // self.config.frames
        frames = Features(tokens.reshape(-1, time, tokens.shape[2]), mask.reshape(-1, time))
        pooled = (self.inner.complete(frames) if self.extracted else frames).mean()  # [batch * frames, width]
        return self.temporal(pooled.reshape(-1, self.config.frames, self.width))

    def layers(self) -> list[nn.Module]:
        """Those of the encoder of pictures; what joins the frames belongs to the last."""
        *early, last = self.inner.layers()
        return [*early, nn.ModuleList([last, self.temporal])]

    def fresh(self) -> list[nn.Module]:
        """What joins the frames, and what is new in the encoder of pictures."""
        return [*self.inner.fresh(), self.temporal]


def _inner(config: FrameEncoder.Config) -> tuple[type[Encoder], Any]:
    """Class and configuration of the encoder of pictures.

    Raises:
        PluginError: If there is none of that name, it is for something else, or its configuration is wrong.
    """
    inner = find_component("encoder", config.encoder)
    if inner.modality != "image":
        raise PluginError(f"encoder {config.encoder!r} is for {inner.modality}; frames need one for image")
    fields = {**config.options, "adapt": config.adapt}
    if config.checkpoint:
        fields["checkpoint"] = config.checkpoint
    try:
        return inner, inner.Config.model_validate(fields)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PluginError(f"frame_encoder: {config.encoder} refuses {where}: {first['msg']}") from None
