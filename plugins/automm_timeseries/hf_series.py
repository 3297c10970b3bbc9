"""Pretrained series encoders of the transformers library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from automm.api import (
    ADAPT,
    Features,
    InputInfo,
    PretrainedEncoder,
    Processor,
    RecipePath,
    Tune,
    find_checkpoint,
    has_weights,
    nn,
    torch,
)
from automm_timeseries.values import Values


class HfSeries(PretrainedEncoder):
    """Any PatchTST or PatchTSMixer checkpoint of transformers, with the level and spread that its scaling removes.

    `checkpoint` names a local folder or a hub id. A folder with a config.json but no weights gives a model that starts
    from random ones. The model reads its context length: of longer series the last steps (or see `longer`); shorter
    ones begin with their first step repeated. Checkpoints that treat channels alike fit any number of channels.
    """

    name = "hf_series"
    modality = "series"
    preference = 0.25

    class Config(PretrainedEncoder.Config):
        """Fields of the pretrained series encoder."""

        checkpoint: Annotated[str, RecipePath()] = ""
        """A folder (relative to the recipe), or a hub id such as `ibm-granite/granite-timeseries-patchtst`."""
        longer: Literal["last", "resample"] = "last"
        """What happens to series longer than the model's context (see the processor `series.values`)."""
        clock: Literal["auto", "drop", "keep"] = "auto"
        """What happens to a table's time axis (see the processor `series.values`)."""
        timing: Literal["auto", "steps", "gaps", "grid"] = "auto"
        """What uneven time steps mean (see the processor `series.values`)."""
        width: Annotated[int, Field(ge=1)] = 128
        """Width of the features."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.1
        """Share of the checkpoint's features dropped in training."""
        adapt: Annotated[str, Field(pattern=ADAPT)] = "none"
        """Which parameters of the checkpoint are trained: `none` (frozen), `last_N` (the last N layers) or `full`."""

    @classmethod
    def pretrained(cls, config: Any) -> bool:
        """True unless the checkpoint is a local folder without weights."""
        return has_weights(find_checkpoint(config.checkpoint))

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Processor:
        """Series of at most the checkpoint's context length."""
        from automm_timeseries import checkpoint

        del info
        length = checkpoint.context_length(find_checkpoint(config.checkpoint))
        fields = {name: getattr(config, name) for name in ("longer", "clock", "timing")}
        return Values(Values.Config(max_length=length, **fields))

    def __init__(self, config: Any, processor: Processor) -> None:
        from automm_timeseries import checkpoint

        super().__init__(config, processor)
        channels = processor.specs()["values"].shape[1]
        assert isinstance(channels, int)
        self.model = checkpoint.load_model(find_checkpoint(config.checkpoint), channels)
        self.context = self.model.config.context_length
        size = channels * self.model.config.d_model + 8 * channels + 1
        self.project = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(size, config.width))
        self.norm = nn.LayerNorm(config.width)
        self.width = config.width

    def train(self, mode: bool = True) -> Any:
        """Sets the mode; a frozen checkpoint always stays in eval mode."""
        super().train(mode)
        if self.config.adapt == "none":
            self.model.eval()
        return self

    def extract(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """Values [batch, time, channels] and mask [batch, time] → one token: patch means by channel, then figures."""
        from automm_timeseries.blocks import describe

        values, mask = arrays["values"], arrays["mask"]
        length = mask.long().sum(1, keepdim=True)  # [batch, 1]
        place = length - self.context + torch.arange(self.context, device=mask.device)  # [batch, context]
        # Series end where the context ends; the index of a padded or cut step never leaves the array.
        index = torch.minimum(place.clamp(min=0), (length - 1).clamp(min=0))
        series = values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))
        real = (place >= 0)[..., None].to(values.dtype).expand_as(series)
        observed = "past_observed_mask" if self.model.config.model_type == "patchtst" else "observed_mask"
        found = self.model(past_values=series, **{observed: real}).last_hidden_state
        patches = found.mean(2).flatten(1)  # [batch, channels × d_model]
        return Features.vector(torch.cat([patches, describe(values, mask)], 1))

    def complete(self, features: Features) -> Features:
        """One token of the checkpoint's features and figures → one token of features."""
        return Features.vector(nn.functional.gelu(self.norm(self.project(features.tokens[:, 0]))))

    def fresh(self) -> list[Any]:
        """The layer on top."""
        return [self.project, self.norm]

    def layers(self) -> list[Any]:
        """What comes before the checkpoint's layers, its layers, and the layer on top with the last of them."""
        stacks = [module for module in self.model.modules() if isinstance(module, nn.ModuleList)]
        stack = max(stacks, key=lambda modules: sum(p.numel() for p in modules.parameters()))
        inside = {id(p) for p in stack.parameters()}
        owners = [module for module in self.model.modules() if list(module.parameters(recurse=False))]
        first = [m for m in owners if not any(id(p) in inside for p in m.parameters(recurse=False))]
        *middle, last = stack
        return [nn.ModuleList(first), *middle, nn.ModuleList([last, self.project, self.norm])]
