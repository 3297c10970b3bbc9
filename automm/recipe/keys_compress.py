"""Reader of the key `compress`."""

from __future__ import annotations

import re

from automm.core.compressor import STAGES
from automm.core.space import ComponentSpace, Fixed
from automm.recipe.components import read_component
from automm.recipe.model import CompressSpec
from automm.recipe.walk import Walk, kind
from automm.recipe.yaml import Node

AUTO = "auto"
"""Tries every compressor that suits."""
PERCENT = re.compile(r" *(\d+(?:\.\d+)?|\.\d+) *% *")


def read_compress(walk: Walk, node: Node) -> CompressSpec:
    """`compress:` auto, a compressor, a list of variants, or {try, max_loss, sure}."""
    if not isinstance(node.value, dict) or "name" in node.value:
        return CompressSpec(chains=_chains(walk, node))
    parts = walk.mapping(node, ("try", "max_loss", "sure"), "{try: [int8, fp16], max_loss: 0.5%}")
    sure = parts.get("sure")
    if sure is not None and not isinstance(sure.value, bool):
        walk.add(sure, f"must be true or false, not {kind(sure)}")
    return CompressSpec(
        chains=_chains(walk, parts["try"]) if "try" in parts else (),
        max_loss=_share(walk, parts["max_loss"]) if "max_loss" in parts else CompressSpec().max_loss,
        sure=sure is not None and sure.value is True,
    )


def _share(walk: Walk, node: Node) -> float:
    """`0.5%` or `0.005`."""
    value: float | None = None
    if isinstance(node.value, str) and (match := PERCENT.fullmatch(node.text)):
        value = float(match[1]) / 100
    elif isinstance(node.value, int | float) and not isinstance(node.value, bool):
        value = float(node.value)
    if value is None or not 0 <= value < 1:
        walk.add(node, f"must be a share such as 0.5% or 0.005, below 100%, not {kind(node)}")
        return 0.0
    return value


def _chains(walk: Walk, node: Node) -> tuple[tuple[ComponentSpace, ...], ...]:
    """Variants: one compressor each, or a list of compressors that are applied one after the other."""
    if not isinstance(node.value, list | dict) and node.text == AUTO:
        return ()
    found: list[tuple[ComponentSpace, ...]] = []
    for item in walk.items(node):
        chain = tuple(step for part in walk.items(item) if (step := _step(walk, part)) is not None)
        if chain and chain in found:
            walk.add(item, f"{' → '.join(step.name for step in chain)!r} is listed twice with the same fields")
        elif chain:
            _check_order(walk, item, chain)
            found.append(chain)
    return tuple(found)


def _step(walk: Walk, node: Node) -> ComponentSpace | None:
    """One compressor, every field with one value."""
    space = read_component(walk, node, "compressor", lambda cls: None)
    if space is None:
        return None
    for name, field in space.fields.items():
        if not isinstance(field, Fixed):
            walk.add(node, f"{name} takes one value here; list the variants to compare under `try`")
            return None
    return space


def _check_order(walk: Walk, node: Node, chain: tuple[ComponentSpace, ...]) -> None:
    """Notes a chain that goes back to an earlier stage: an exported graph is not trained any more."""
    stages = [walk.registry.get("compressor", step.name).stage for step in chain]
    places = [list(STAGES).index(stage) for stage in stages]
    if places != sorted(places) or stages.count("student") > 1:
        order = "; ".join(
            f"{stage}: {', '.join(e.name for e in walk.registry.all('compressor') if e.cls.stage == stage)}"  # type: ignore[attr-defined]
            for stage in STAGES
        )
        walk.add(node, f"a chain goes from the student over the model to the graph ({order})")
