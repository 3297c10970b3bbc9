"""Pretrained encoders of sound behind one face: arrays → states of which padding has no part."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from automm.api import Features


class WaveTower(nn.Module):
    """Wav2Vec2, HuBERT and their kin: convolutions over the samples, then a transformer.

    Their first normalisation runs over the whole sound in the base models; here it leaves the padding out, so that a
    sound in a batch gives what it gives alone (transformers' own batches do not).

    Args:
        model: The model of transformers.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.convolutions = model.feature_extractor.conv_layers
        self.projection = model.feature_projection
        self.encoder = model.encoder
        self.encoder.config.layerdrop = 0.0  # a layer left out gets no gradient
        self.width: int = model.config.hidden_size

    def forward(self, wave: torch.Tensor, mask: torch.Tensor) -> Features:
        """Samples [batch, samples] and mask [batch, samples] → states [batch, time, width]."""
        x, length = wave[:, None], mask.sum(1)
        for layer in self.convolutions:
            stride, kernel = layer.conv.stride[0], layer.conv.kernel_size[0]
            length = (length - kernel) // stride + 1
            if isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm):
                x = layer.conv(x)
                x = layer.activation(_group_norm(x, _real(x.shape[2], length)[:, None], layer.layer_norm))
            else:
                x = layer(x)
        mask = _real(x.shape[2], length)
        x = self.projection(x.mT)
        x = x[0] if isinstance(x, tuple) else x
        x = x * mask[..., None].to(x.dtype)
        return Features(self.encoder(x, attention_mask=mask).last_hidden_state, mask)

    def layers(self) -> list[nn.Module]:
        """The convolutions, then every layer of the transformer; what else it has belongs to the first and the last."""
        *early, last = self.encoder.layers
        before = [self.convolutions, self.projection, self.encoder.pos_conv_embed]
        return [nn.ModuleList(before), *early, nn.ModuleList([last, self.encoder.layer_norm])]


def _real(time: int, length: torch.Tensor) -> torch.Tensor:
    """Bool [batch, time]: the first `length` places of every row."""
    return torch.arange(time, device=length.device) < length[:, None]


def _group_norm(x: torch.Tensor, real: torch.Tensor, norm: nn.GroupNorm) -> torch.Tensor:
    """Normalises every channel of every row over its real frames: [batch, width, time], real [batch, 1, time]."""
    weight = real.to(x.dtype)
    count = weight.sum(2, keepdim=True).clamp(min=1)
    mean = (x * weight).sum(2, keepdim=True) / count
    var = ((x - mean).square() * weight).sum(2, keepdim=True) / count
    return (x - mean) * torch.rsqrt(var + norm.eps) * norm.weight[:, None] + norm.bias[:, None]


class WhisperTower(nn.Module):
    """The encoder half of Whisper, which always sees 30 seconds; its states beyond the sound are masked.

    Args:
        model: The model of transformers.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.get_encoder()
        self.encoder.layerdrop = 0.0
        self.frames = 2 * self.encoder.max_source_positions
        self.width: int = model.config.d_model

    def forward(self, bands: torch.Tensor, mask: torch.Tensor) -> Features:
        """Log-mel [batch, time, mels] and mask [batch, time] → states [batch, frames / 2, width]."""
        # Silence is what the processor would have computed there: the floor, 80 dB below the loudest.
        silence = (bands.masked_fill(~mask[..., None], -1e4).amax((1, 2)) - 2).clamp(min=-1.5)
        bands = torch.where(mask[..., None], bands, silence[:, None, None])
        short = self.frames - bands.shape[1]
        filled = torch.cat([bands, silence[:, None, None].expand(-1, short, bands.shape[2])], 1)
        states = self.encoder(filled.mT).last_hidden_state
        return Features(states, _real(states.shape[1], (mask.sum(1) + 1) // 2))

    def layers(self) -> list[nn.Module]:
        """The convolutions, then every layer of the transformer."""
        *early, last = self.encoder.layers
        before = [self.encoder.conv1, self.encoder.conv2, self.encoder.embed_positions]
        return [nn.ModuleList(before), *early, nn.ModuleList([last, self.encoder.layer_norm])]


class AstTower(nn.Module):
    """The Audio Spectrogram Transformer: patches of a spectrogram of fixed length, and two class tokens.

    Args:
        model: The model of transformers.
        silence: What fills the spectrogram up.
    """

    def __init__(self, model: Any, silence: float) -> None:
        super().__init__()
        self.model = model
        self.silence = silence
        config = model.config
        self.frames: int = config.max_length
        self.patch, self.stride = config.patch_size, config.time_stride
        self.width: int = config.hidden_size

    def forward(self, bands: torch.Tensor, mask: torch.Tensor) -> Features:
        """Log-mel [batch, time, mels] and mask [batch, time] → two class tokens and the patches that hold sound."""
        bands = torch.where(mask[..., None], bands, torch.full_like(bands, self.silence))
        bands = F.pad(bands, (0, 0, 0, self.frames - bands.shape[1]), value=self.silence)
        states = self.model(bands).last_hidden_state  # [batch, 2 + bands · time, width]
        time = (self.frames - self.patch) // self.stride + 1
        real = _real(time, (mask.sum(1) - 1) // self.stride + 1)  # [batch, time]
        real = real.repeat(1, (states.shape[1] - 2) // time)
        return Features(states, torch.cat([torch.ones_like(real[:, :2]), real], 1))

    def layers(self) -> list[nn.Module]:
        """The embeddings, then every layer of the transformer."""
        *early, last = self.model.layers
        return [self.model.embeddings, *early, nn.ModuleList([last, self.model.layernorm])]
