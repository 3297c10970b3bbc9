"""Graph layers over the tokens of several inputs; imported only when a graph fusion is made."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from automm.api import Features
from automm_fusion._modules import joined

with warnings.catch_warnings():  # torch_geometric compiles classes with torch.jit.script, which is deprecated
    warnings.simplefilter("ignore")
    from torch_geometric.nn import DenseGATConv, DenseGraphConv
    from torch_geometric.nn.aggr import Aggregation, AttentionalAggregation, MaxAggregation, MeanAggregation


class MaxConv(nn.Module):
    """`DenseGraphConv(aggr="max")` where all nodes of a kind have the same neighbours.

    The library's holds [batch, nodes, nodes, width], gigabytes for a few hundred tokens; here there is one maximum per
    kind.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin_rel = nn.Linear(width, width)
        self.lin_root = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, neighbours: Tensor, kind: Tensor) -> Tensor:
        """What every node becomes, [batch, nodes, width].

        Args:
            x: Nodes, [batch, nodes, width].
            neighbours: Bool [batch, kinds, nodes]: which nodes the nodes of a kind hear; at least one.
            kind: Int64 [batch, nodes]: the kind of every node.
        """
        highest = [x.masked_fill(~mask[:, :, None], float("-inf")).amax(1) for mask in neighbours.unbind(1)]
        heard = torch.stack(highest, 1).gather(1, kind[:, :, None].expand_as(x))
        return self.lin_rel(heard) + self.lin_root(x)  # type: ignore[no-any-return]


class Relation(nn.Module):
    """Messages along the edges of one type: among the tokens of one input, or between those of two."""

    def __init__(self, width: int, aggregation: str, heads: int, dropout: float) -> None:
        super().__init__()
        self.conv: nn.Module
        if aggregation == "attention":
            self.conv = DenseGATConv(width, width // heads, heads, dropout=dropout)
        elif aggregation == "mean":
            self.conv = DenseGraphConv(width, width, aggr="mean")
        else:
            self.conv = MaxConv(width)

    def forward(self, inputs: Sequence[Features]) -> list[Tensor]:
        """One input or two → what their tokens hear, [batch, time, width] each."""
        x, mask = joined(inputs)
        kind = torch.cat([torch.full_like(f.mask, at, dtype=torch.long) for at, f in enumerate(inputs)], 1)
        # Every token hears all real tokens of the other input; with one input, all of its own.
        heard = [mask & (kind != at) if len(inputs) == 2 else mask for at in range(len(inputs))]
        neighbours = torch.stack(heard, 1)  # [batch, kinds, nodes]
        if isinstance(self.conv, MaxConv):
            found = self.conv(x, neighbours, kind)
        else:
            edges = neighbours.gather(1, kind[:, :, None].expand(-1, -1, kind.shape[1]))  # [batch, to, from]
            found = (
                self.conv(x, edges, add_loop=False)
                if isinstance(self.conv, DenseGATConv)
                else self.conv(x, edges.to(x.dtype))
            )
        first = inputs[0].mask.shape[1]
        return [found[:, :first], found[:, first:]][: len(inputs)]


class TypedLayer(nn.Module):
    """One round of messages in a graph whose edges have a type: within each input, and between each pair of inputs."""

    def __init__(self, inputs: int, width: int, aggregation: str, heads: int, dropout: float) -> None:
        super().__init__()
        self.pairs = [*((at,) for at in range(inputs)), *combinations(range(inputs), 2)]
        self.relations = nn.ModuleList([Relation(width, aggregation, heads, dropout) for _ in self.pairs])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(inputs)])
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Sequence[Features]) -> list[Features]:
        """The tokens of all inputs, [batch, time, width] each → the same after one round."""
        heard: list[list[Tensor]] = [[] for _ in inputs]
        for pair, relation in zip(self.pairs, self.relations, strict=True):
            for at, message in zip(pair, relation([inputs[at] for at in pair]), strict=True):
                heard[at].append(message)
        found = []
        for f, messages, norm in zip(inputs, heard, self.norms, strict=True):
            mean = torch.stack(messages).mean(0)
            found.append(Features(norm(f.tokens + self.dropout(F.gelu(mean))), f.mask))
        return found


class Pooling(nn.Module):
    """One vector of all real nodes of a graph."""

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.pool: Aggregation
        if kind == "attention":
            self.pool = AttentionalAggregation(nn.Linear(width, 1, bias=False))
        else:
            self.pool = MeanAggregation() if kind == "mean" else MaxAggregation()

    def forward(self, nodes: Features) -> Tensor:
        """Nodes [batch, nodes, width] → [batch, width]."""
        batch = nodes.mask.shape[0]
        graph = torch.arange(batch, device=nodes.mask.device)[:, None].expand_as(nodes.mask)
        # Padding goes to a graph of its own, which is dropped.
        index = torch.where(nodes.mask, graph, batch).flatten()
        return self.pool(nodes.tokens.flatten(0, 1), index, dim_size=batch + 1)[:batch]  # type: ignore[no-any-return]
