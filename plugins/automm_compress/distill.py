"""A smaller model that learns to answer as the full one does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from automm.api import NotCompressible, StudentCompressor


class Distill(StudentCompressor):
    """Trains a smaller network on the answers of the model (Hinton et al. 2015): one in place of an ensemble, or one
    without pretrained encoders.
    """

    preference = 0.0

    class Config(StudentCompressor.Config):
        """Who the student is."""

        student: Literal["auto", "member", "small"] = "auto"
        """`member`: the heaviest network of an ensemble; `small`: the plan's default network over encoders that start
        from scratch or need no training; `auto`: the first of these that is smaller than the model."""

    def student(self, members: Sequence[tuple[float, dict[str, Any]]], default: dict[str, Any]) -> dict[str, Any]:
        """The student's configuration."""
        networks = [resolved for _, resolved in members if "learner" not in resolved]
        if len(members) > 1 and networks and self.config.student != "small":
            return networks[0]
        if self.config.student == "member":
            raise NotCompressible("the model is no ensemble with a network in it")
        if len(members) == 1 and networks and _parts(networks[0]) == _parts(default):
            raise NotCompressible("the model is the default network already, without pretrained encoders")
        return default


def _parts(resolved: dict[str, Any]) -> tuple[Any, ...]:
    """What the size of a network depends on first of all."""
    return {slug: choice["name"] for slug, choice in resolved["encoders"].items()}, resolved["fusion"]["name"]
