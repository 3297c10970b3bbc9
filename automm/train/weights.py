"""Tensors on disk: safetensors, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from automm.report.folder import storage_errors


def save_weights(tensors: Mapping[str, Tensor], path: Path, facts: Mapping[str, str] | None = None) -> None:
    """Writes tensors, and some facts beside them.

    Raises:
        StorageError: If the disk is full or not writable.
    """
    from safetensors.torch import save_file

    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
        save_file(plain, partial, dict(facts) if facts else None)
        partial.replace(path)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Reads the tensors that `save_weights` wrote."""
    from safetensors.torch import load_file

    return dict(load_file(path))


def load_facts(path: Path) -> dict[str, str]:
    """Reads the facts beside them."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})
