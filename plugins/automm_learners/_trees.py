"""Boosted trees as arrays, and as torch operations over them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Trees(NamedTuple):
    """A forest as arrays: nodes of all trees one after the other, the two children of a node side by side.

    Attributes:
        route: Per node the column that it looks at, its left child (the right one follows it), and whether unknown
            values go right; int32 [nodes, 3]. A leaf is its own left child.
        threshold: Rows above it go right, float32 [nodes]; infinite for leaves.
        value: What a leaf adds, float32 [nodes]; 0 on inner nodes.
        root: The root of each tree, int64 [trees].
        depth: Steps from the root to the deepest leaf.
    """

    route: np.ndarray
    threshold: np.ndarray
    value: np.ndarray
    root: np.ndarray
    depth: int


def read_trees(dump: dict[str, Any]) -> Trees:
    """Reads `Booster.dump_model()` of LightGBM."""
    route: list[tuple[int, int, bool]] = []
    threshold: list[float] = []
    value: list[float] = []
    roots, deepest = [], 0
    for info in dump["tree_info"]:
        roots.append(len(route))
        row = [(info["tree_structure"], 0)]
        start = len(route)
        for node, depth in row:  # breadth first: `row` grows while it is read
            deepest = max(deepest, depth)
            own = len(route)
            if "leaf_value" in node:
                route.append((0, own, False))
                threshold.append(np.inf)
                value.append(node["leaf_value"])
                continue
            # A column without unknown values in training has no direction for them: LightGBM reads NaN as 0 there.
            known_only = node["missing_type"] == "None"
            unknown_left = node["threshold"] >= 0 if known_only else node["default_left"]
            route.append((node["split_feature"], start + len(row), not unknown_left))
            threshold.append(_down(node["threshold"]))
            value.append(0.0)
            row += [(node["left_child"], depth + 1), (node["right_child"], depth + 1)]
    return Trees(
        np.array(route, np.int32).reshape(-1, 3), np.array(threshold, np.float32), np.array(value, np.float32),
        np.array(roots, np.int64), deepest,
    )  # fmt: skip


def _down(threshold: float) -> np.float32:
    """The largest float32 up to a threshold: float32 values then fall on the same side as with the exact one."""
    most = float(np.finfo(np.float32).max)
    near = np.float32(min(max(threshold, -most), most))
    return np.nextafter(near, np.float32(-np.inf)) if float(near) > threshold else near


def leaf_values(x: Tensor, route: Tensor, threshold: Tensor, value: Tensor, root: Tensor, depth: int) -> Tensor:
    """What each tree says of each row; the arrays are those of `Trees`.

    Args:
        x: Float32 [rows, columns]; NaN is unknown.
        route: Int32 [nodes, 3].
        threshold: Float32 [nodes].
        value: Float32 [nodes].
        root: Int64 [trees].
        depth: How many steps to take.

    Returns:
        [rows, trees].
    """
    # Flat arrays and `index_select`, which is one operation of the exported graph: everything else becomes ten.
    column, left, unknown_right = route.long().unbind(1)
    rows, width = x.shape
    at = root.repeat(rows)  # [rows * trees]
    start = (torch.arange(rows, device=x.device) * width).repeat_interleave(root.shape[0])
    flat = x.reshape(-1)
    for _ in range(depth):
        found = flat.index_select(0, start + column.index_select(0, at))
        above = (found > threshold.index_select(0, at)).long()
        at = left.index_select(0, at) + torch.where(found.isnan(), unknown_right.index_select(0, at), above)
    return value.index_select(0, at).reshape(rows, root.shape[0])
