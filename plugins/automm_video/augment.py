"""Random changes of a batch of clips, alike in all frames of a clip, on the batch's device."""

from __future__ import annotations

from automm.api import F, torch


def augment(frames: torch.Tensor, strength: float, flip: bool) -> torch.Tensor:
    """Mirrors, scales, shifts and recolours every clip on its own, all its frames in the same way.

    Draws from torch's global generator, so a seed fixes the result.

    Args:
        frames: Float tensor [batch, frames, 3, height, width], values 0 to 1.
        strength: 0 (only mirrors) to 1 (scales 0.6 to 1.1, shifts to 15 %, colours to 40 %).
        flip: Whether half of the clips are mirrored.

    Returns:
        A tensor of the same shape.
    """
    batch, count, channels, height, width = frames.shape
    scale = 1 - 0.15 * strength + _uniform(frames, 0.25 * strength)
    sign = torch.where(torch.rand(batch, device=frames.device) < 0.5, -1.0, 1.0) if flip else torch.ones_like(scale)
    nothing = torch.zeros_like(scale)
    rows = (
        torch.stack([scale * sign, nothing, _uniform(frames, 0.3 * strength)], 1),  # 0.3 of a half: 15 %
        torch.stack([nothing, scale, _uniform(frames, 0.3 * strength)], 1),
    )
    size = [batch, count * channels, height, width]
    grid = F.affine_grid(torch.stack(rows, 1), size, align_corners=False)
    moved = F.grid_sample(frames.reshape(size), grid, padding_mode="reflection", align_corners=False)
    moved = moved.reshape(frames.shape)
    if strength == 0:
        return moved
    brightness, contrast, saturation = (1 + _uniform(frames, 0.4 * strength)[:, None, None, None, None] for _ in "123")
    mean = moved.mean((1, 2, 3, 4), keepdim=True)
    moved = (moved - mean) * contrast + mean * brightness
    grey = moved.mean(2, keepdim=True)
    return ((moved - grey) * saturation + grey).clamp(0, 1)


def _uniform(like: torch.Tensor, spread: float) -> torch.Tensor:
    """One number per clip in [-spread, spread]."""
    return (torch.rand(like.shape[0], device=like.device) * 2 - 1) * spread
