"""Boosted trees as arrays, and as torch operations over them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Trees(NamedTuple):
    """A forest as arrays; node 0 of a tree is its root, and a leaf is its own child.

    Attributes:
        feature: Column that a node looks at, int64 [trees, nodes].
        threshold: Rows up to it go left, float32 [trees, nodes].
        left: Child node, int64 [trees, nodes].
        right: Child node, int64 [trees, nodes].
        unknown_left: Whether NaN goes left, bool [trees, nodes].
        value: What a leaf adds, float32 [trees, nodes]; 0 on inner nodes.
        depth: Steps from the root to the deepest leaf.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    unknown_left: np.ndarray
    value: np.ndarray
    depth: int


def read_trees(dump: dict[str, Any]) -> Trees:
    """Reads `Booster.dump_model()` of LightGBM."""
    forests = [_nodes(info["tree_structure"]) for info in dump["tree_info"]]
    most = max(len(nodes) for nodes, _ in forests)
    shape = (len(forests), most)
    own = np.arange(most)
    out = Trees(
        np.zeros(shape, np.int64), np.zeros(shape, np.float32), np.tile(own, (len(forests), 1)),
        np.tile(own, (len(forests), 1)), np.zeros(shape, bool), np.zeros(shape, np.float32),
        max(depth for _, depth in forests),
    )  # fmt: skip
    for tree, (nodes, _) in enumerate(forests):
        for at, node in enumerate(nodes):
            if "leaf_value" in node:
                out.value[tree, at] = node["leaf_value"]
                continue
            out.feature[tree, at] = node["split_feature"]
            out.threshold[tree, at] = _down(node["threshold"])
            out.left[tree, at], out.right[tree, at] = node["left"], node["right"]
            # A column without unknown values in training has no direction for them: LightGBM reads NaN as 0 there.
            known_only = node["missing_type"] == "None"
            out.unknown_left[tree, at] = node["threshold"] >= 0 if known_only else node["default_left"]
    return out


def _nodes(root: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """The nodes of a tree with the numbers of their children, and its depth."""
    nodes: list[dict[str, Any]] = []
    deepest = 0
    waiting: list[tuple[dict[str, Any], dict[str, Any] | None, str, int]] = [(root, None, "", 0)]
    while waiting:
        node, parent, side, depth = waiting.pop()
        if parent is not None:
            parent[side] = len(nodes)
        deepest = max(deepest, depth)
        if "leaf_value" in node:
            nodes.append({"leaf_value": node["leaf_value"]})
            continue
        own = {key: node[key] for key in ("split_feature", "threshold", "missing_type", "default_left")}
        nodes.append(own)
        waiting += [(node["left_child"], own, "left", depth + 1), (node["right_child"], own, "right", depth + 1)]
    return nodes, deepest


def _down(threshold: float) -> np.float32:
    """The largest float32 up to a threshold: float32 values then fall on the same side as with the exact one."""
    most = float(np.finfo(np.float32).max)
    near = np.float32(min(max(threshold, -most), most))
    return np.nextafter(near, np.float32(-np.inf)) if float(near) > threshold else near


def leaf_values(x: Tensor, trees: dict[str, Tensor]) -> Tensor:
    """What each tree says of each row.

    Args:
        x: Float32 [rows, columns]; NaN is unknown.
        trees: The arrays of `Trees` as tensors; `depth` as an int64 [1].

    Returns:
        [rows, trees].
    """
    count, nodes = trees["feature"].shape
    flat = {name: trees[name].reshape(-1) for name in Trees._fields if name != "depth"}
    first = torch.arange(count, device=x.device) * nodes  # [trees]
    at = x.new_zeros(x.shape[0], count, dtype=torch.int64)
    for _ in range(trees["levels"].shape[0]):
        node = at + first  # [rows, trees]
        value = x.gather(1, flat["feature"][node])
        left = (value <= flat["threshold"][node]) | (value.isnan() & flat["unknown_left"][node])
        at = torch.where(left, flat["left"][node], flat["right"][node])
    return flat["value"][at + first]
