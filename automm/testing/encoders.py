"""Checks of encoders, on the examples of their modality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from automm.api import nn, torch
from automm.core.features import Features
from automm.model.frozen import frozen, is_frozen
from automm.testing import modules
from automm.testing.subject import ROWS, Subject, take, without

if TYPE_CHECKING:
    from torch import Tensor


def _make(subject: Subject, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    module = subject.cls(subject.config, subject.processor)
    return module.eval()


def _arrays(subject: Subject, cells: Any = None) -> dict[str, Tensor]:
    found = subject.arrays if cells is None else subject.processor(cells)
    return {name: torch.from_numpy(array.copy()) for name, array in found.items()}


def gives_its_width(subject: Subject) -> None:
    """Features have the declared width and a bool mask with a token in every row."""
    module = _make(subject)
    assert isinstance(getattr(module, "width", None), int), "set self.width in __init__"
    tokens, mask = module(_arrays(subject))
    assert tokens.ndim == 3, f"tokens have shape {list(tokens.shape)}, not [batch, time, width]"
    assert (len(tokens), tokens.shape[2]) == (ROWS, module.width), (
        f"tokens have shape {list(tokens.shape)} for {ROWS} rows and width {module.width}"
    )
    assert mask.dtype == torch.bool, f"the mask must be bool, it is {mask.dtype}"
    assert mask.shape == tokens.shape[:2], f"mask {list(mask.shape)} for tokens {list(tokens.shape)}"
    assert bool(mask.any(1).all()), "every row needs a real token; automm masks missing inputs itself"
    modules.finite(tokens, "features must be finite")


def rows_are_independent(subject: Subject) -> None:
    """A cell alone gives the features that it gives in a batch with longer ones: padding does not matter."""
    module, cells = _make(subject), subject.examples().cells
    whole = module(_arrays(subject)).mean()
    for row in range(0, ROWS, 7):
        alone = module(_arrays(subject, take(cells, [row]))).mean()
        modules.same(alone, whole[[row]], "a cell alone must give what it gives in a batch")


def row_order_does_not_matter(subject: Subject) -> None:
    """Permuted rows give permuted features."""
    module, arrays = _make(subject), _arrays(subject)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    permuted = module({name: array[order] for name, array in arrays.items()}).mean()
    modules.same(permuted, module(arrays).mean()[order], "rows must not depend on their order")


def missing_cells_are_harmless(subject: Subject) -> None:
    """The processor's blank row gives finite features, also as a whole batch, and leaves other rows alone."""
    module, cells = _make(subject), subject.examples().cells
    found = module(_arrays(subject, without(cells, (0, 3))))
    modules.finite(found.tokens, "a missing cell must not give NaN")
    modules.same(found.mean()[1:3], module(_arrays(subject)).mean()[1:3], "a missing cell must not change other rows")
    nothing = _arrays(subject, without(take(cells, (0, 1)), (0, 1)))
    modules.finite(module(nothing).tokens, "a batch of missing cells must not give NaN")


def gradients_reach_every_parameter(subject: Subject) -> None:
    """In training the features are finite and every trained parameter gets a finite gradient."""
    module = _make(subject).train()
    tokens, mask = module(_arrays(subject))
    generator = torch.Generator().manual_seed(0)
    loss = (tokens * torch.randn(tokens.shape, generator=generator) * mask[:, :, None]).sum()
    modules.gradients(module, loss, "training")


def works_in_half_precision(subject: Subject) -> None:
    """Under bfloat16 autocast features and gradients are finite, and near those in 32 bit."""
    arrays = _arrays(subject)
    modules.half_precision(_make(subject), lambda module: module(arrays).mean(), "in bfloat16")


def two_ranks_agree_with_one(subject: Subject) -> None:
    """Two processes of a job, each on half of the rows, get the gradients of one on all rows."""
    arrays = _arrays(subject)
    direction = torch.randn(ROWS, _make(subject).width, generator=torch.Generator().manual_seed(0))

    def loss(module: Any, rows: range) -> Tensor:
        part = {name: array[rows.start : rows.stop] for name, array in arrays.items()}
        features: Tensor = module(part).mean()
        return (features * direction[rows.start : rows.stop]).sum()

    modules.two_ranks(lambda: _make(subject), loss, ROWS)


def same_cell_gives_same_features(subject: Subject) -> None:
    """A cell's features are its own, among whatever other cells, and what is extracted is the same in training."""
    module, cells = _make(subject), subject.examples().cells
    first = module(_arrays(subject, take(cells, (0, 1, 2)))).mean()[0]
    for rows, at in (((3, 0), 1), ((0, 0, 5, 4), 1)):
        again = module(_arrays(subject, take(cells, rows))).mean()[at]
        modules.same(again, first, "a cell must give the same features in every batch, so that they can be stored")
    if subject.cls.extracts(subject.config):
        arrays = _arrays(subject, take(cells, range(4)))
        with torch.no_grad():
            stored, fresh = (m.extract(arrays) for m in (module, _make(subject).train()))
            rule = "extract must give the same in training and with new weights, so that it can be stored"
            modules.same_features(Features(fresh.tokens.nan_to_num(), fresh.mask), _known(stored), rule)
            completed = module.complete(Features(*stored))
        modules.same_features(completed, module(arrays), "complete(extract(arrays)) must be forward(arrays)")


def frozen_weights_come_from_the_checkpoint(subject: Subject) -> None:
    """Under `adapt: none` all weights of a checkpoint's encoder but the fresh ones are read from it."""
    config = subject.config.model_copy(update={"adapt": "none"})
    if not is_frozen(subject.cls, config):
        return

    def weights(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return dict(frozen(subject.cls(config, subject.processor)))

    one, other = weights(0), weights(1)
    drawn = [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]
    assert not drawn, f"weights that the checkpoint does not have belong into fresh(), they are new: {drawn[:5]}"


def _known(features: Features) -> Features:
    return Features(features.tokens.nan_to_num(), features.mask)


def search_space_works(subject: Subject) -> None:
    """Both ends of the search space give finite features of the width they declare."""
    cells = take(subject.examples().cells, range(4))
    for config in subject.corners()[:2]:
        processor = subject.cls.processor(config, subject.examples().info)
        processor.fit([take(subject.examples().cells, range(8))])
        torch.manual_seed(0)
        module = subject.cls(config, processor).eval()
        with torch.no_grad():
            tokens, _ = module({name: torch.from_numpy(array) for name, array in processor(cells).items()})
        assert tokens.shape[2] == module.width, f"width {module.width}, features {list(tokens.shape)} with {config!r}"
        modules.finite(tokens, f"with {config!r}")


def minds_its_own_business(subject: Subject) -> None:
    """Building and calling it prints nothing and leaves global random states alone."""
    cells = take(subject.examples().cells, range(4))
    with modules.well_behaved("encoder"):
        processor = subject.cls.processor(subject.config, subject.examples().info)
        processor.fit([cells])
        arrays = {name: torch.from_numpy(array) for name, array in processor(cells).items()}
        subject.cls(subject.config, processor).train()(arrays)


def layers_hold_every_parameter(subject: Subject) -> None:
    """`layers` covers all parameters, so that `adapt: last_N` freezes and frees what it says."""
    module = _make(subject)
    inside = {id(parameter) for layer in module.layers() for parameter in layer.parameters()}
    outside = [name for name, parameter in module.named_parameters() if id(parameter) not in inside]
    assert not outside, f"parameters outside layers(): {', '.join(outside[:5])}"


def leaves_inputs_alone(subject: Subject) -> None:
    """Arrays are not changed in place."""
    module, arrays = _make(subject).train(), _arrays(subject)
    modules.unchanged(arrays.values(), lambda: module(arrays), "forward must not change its arrays")


def eval_is_deterministic(subject: Subject) -> None:
    """In eval mode the same batch gives the same numbers."""
    module, arrays = _make(subject), _arrays(subject)
    assert torch.equal(module(arrays).tokens, module(arrays).tokens), "eval mode must be deterministic"


def copies_and_reloads(subject: Subject) -> None:
    """Deep copies and state dictionaries keep the numbers."""
    arrays = _arrays(subject)
    modules.copies(_make(subject), lambda module: module(arrays).mean(), lambda: _make(subject, seed=1))


def learns_two_groups(subject: Subject) -> None:
    """Learns to tell the two groups of examples apart, also in rows it has not seen."""
    module = _make(subject).train()
    module.requires_grad_(True)
    torch.manual_seed(0)
    head = nn.Linear(module.width, 2)
    arrays, groups = _arrays(subject), torch.tensor(subject.examples().groups)
    modules.learns(
        [*module.parameters(), *head.parameters()],
        lambda: nn.functional.cross_entropy(head(module(arrays).mean()), groups),
        rule="two groups of examples must be learned",
    )
    other = subject.examples(seed=1)
    unseen = {name: torch.from_numpy(array.copy()) for name, array in subject.other_arrays.items()}
    guess = head(module.eval()(unseen).mean()).argmax(1)
    right = float((guess == torch.tensor(other.groups)).double().mean())
    assert right >= 0.8, f"two groups of examples must be told apart in new rows: {right:.0%} are right"


def exports_a_graph(subject: Subject) -> None:
    """The exported graph agrees with the encoder at other batch sizes and lengths."""
    specs = subject.processor.specs()
    dynamic = {
        name: {0: "batch", **{axis: size for axis, size in enumerate(spec.shape, 1) if isinstance(size, str)}}
        for name, spec in specs.items()
    }
    cells = subject.examples(seed=1).cells
    batches = [_arrays(subject, take(cells, rows)) for rows in ((0,), (1, 2, 3))]
    modules.exports(_flat(_make(subject)), batches, _arrays(subject, take(cells, range(4))), dynamic)


def _flat(encoder: Any) -> Any:
    """The encoder as a module from plain tensors to answers, with what the model does to missing rows left out."""

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            features: Features = self.encoder(batch)
            return {"features": features.mean()}

    return Flat().eval()


CHECKS = (
    gives_its_width,
    rows_are_independent,
    row_order_does_not_matter,
    missing_cells_are_harmless,
    gradients_reach_every_parameter,
    works_in_half_precision,
    two_ranks_agree_with_one,
    layers_hold_every_parameter,
    leaves_inputs_alone,
    eval_is_deterministic,
    same_cell_gives_same_features,
    frozen_weights_come_from_the_checkpoint,
    copies_and_reloads,
    minds_its_own_business,
    search_space_works,
    learns_two_groups,
    exports_a_graph,
)
