"""Random changes of a batch of pictures, on the batch's device."""

from __future__ import annotations

import math

from automm.api import F, torch


def augment(pixels: torch.Tensor, strength: float, flip: str) -> torch.Tensor:
    """Flips, turns, scales, shifts and recolours every picture on its own, and covers a square of it.

    Draws from torch's global generator, so a seed fixes the result. The covered square follows DeVries & Taylor 2017,
    "Improved Regularization of Convolutional Neural Networks with Cutout".

    Args:
        pixels: Float tensor [batch, 3, height, width], values 0 to 1.
        strength: 0 (only flips) to 1 (turns to 20 degrees, scales 0.6 to 1.1, shifts to 15 %, colours to 40 %).
        flip: "none", "horizontal" or "both".

    Returns:
        A tensor of the same shape.
    """
    pixels = _move(pixels, strength, flip)
    if strength == 0:
        return pixels
    return _cover(_recolour(pixels, 0.4 * strength), 0.35 * strength)


def _uniform(like: torch.Tensor, spread: float) -> torch.Tensor:
    """One number per row in [-spread, spread]."""
    return (torch.rand(like.shape[0], device=like.device) * 2 - 1) * spread


def _sign(like: torch.Tensor) -> torch.Tensor:
    """-1 or 1 per row."""
    return (torch.rand(like.shape[0], device=like.device) < 0.5).to(like.dtype) * 2 - 1


def _move(pixels: torch.Tensor, strength: float, flip: str) -> torch.Tensor:
    angle = _uniform(pixels, math.radians(20) * strength)
    scale = 1 - 0.15 * strength + _uniform(pixels, 0.25 * strength)
    across = scale * (_sign(pixels) if flip in ("horizontal", "both") else 1)
    down = scale * (_sign(pixels) if flip == "both" else 1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = (
        torch.stack([cos * across, -sin * down, _uniform(pixels, 0.3 * strength)], 1),  # 0.3 of a half: 15 %
        torch.stack([sin * across, cos * down, _uniform(pixels, 0.3 * strength)], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def _recolour(pixels: torch.Tensor, spread: float) -> torch.Tensor:
    brightness, contrast, saturation = (1 + _uniform(pixels, spread)[:, None, None, None] for _ in range(3))
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = (pixels - mean) * contrast + mean * brightness
    grey = pixels.mean(1, keepdim=True)
    return ((pixels - grey) * saturation + grey).clamp(0, 1)


def _cover(pixels: torch.Tensor, side: float) -> torch.Tensor:
    """Lays the picture's mean over a square of `side` (share of the picture) in half of the pictures."""
    batch, _, height, width = pixels.shape
    y, x = torch.rand(2, batch, 1, device=pixels.device)
    half = side / 2 * (torch.rand(batch, 1, device=pixels.device) < 0.5)
    rows = (torch.arange(height, device=pixels.device) / height - y).abs() < half  # [batch, height]
    columns = (torch.arange(width, device=pixels.device) / width - x).abs() < half  # [batch, width]
    covered = (rows[:, :, None] & columns[:, None, :])[:, None]
    return torch.where(covered, pixels.mean((1, 2, 3), keepdim=True), pixels)
