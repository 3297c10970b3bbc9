"""Checks of objectives, on three made-up inputs of several lengths in which every combination of inputs is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automm.api import nn, torch
from automm.core.features import Features
from automm.core.profile import Context, InputInfo
from automm.testing import modules
from automm.testing.inputs import WIDTHS, longer, noisy, rows_of, some_inputs, tensors_of
from automm.testing.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor

JOINT = 5
ROWS = 16


def _make(subject: Subject, widths: Mapping[str, int] = WIDTHS, config: Any = None) -> Any:
    """The objective and a fusion, in training mode: objectives are for nothing else."""
    torch.manual_seed(0)
    objective = subject.cls(config or subject.config, widths, JOINT)
    torch.manual_seed(0)

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.objective = objective
            self.layers = nn.ModuleDict({name: nn.Linear(width, JOINT, bias=False) for name, width in widths.items()})

        def fuse(self, inputs: Mapping[str, Features]) -> Tensor:
            told = [self.layers[name](features.mean()) for name, features in inputs.items()]
            return torch.stack(told).sum(0)

        def forward(self, inputs: Mapping[str, Features]) -> Tensor:
            torch.manual_seed(0)  # what is drawn at random is the same in every call
            values: Tensor = self.objective(inputs, self.fuse)
            return values

    return Both().train()


def one_value_per_row(subject: Subject) -> None:
    """It gives a finite float tensor [batch]."""
    values = _make(subject)(some_inputs())
    assert isinstance(values, torch.Tensor), f"an objective gives a tensor, not {type(values).__name__}"
    assert values.shape == (ROWS,), f"an objective gives one value per row: {list(values.shape)} for {ROWS} rows"
    assert values.is_floating_point(), f"an objective gives floats, not {values.dtype}"


def any_input_may_be_missing(subject: Subject) -> None:
    """Every combination of missing inputs gives finite numbers; a row without any input tells nothing."""
    values = _make(subject)(some_inputs())
    modules.finite(values, "missing inputs must not give NaN")
    nothing = float(values[7].detach())
    assert nothing == 0.0, f"a row without any input must give 0, it gives {nothing:.4g}"


def missing_tokens_do_not_matter(subject: Subject) -> None:
    """What stands behind an all-False mask, or in padding, changes nothing."""
    module, inputs = _make(subject), some_inputs()
    modules.same(module(noisy(inputs)), module(inputs), "masked tokens must not matter")


def padding_does_not_matter(subject: Subject) -> None:
    """More padding changes nothing."""
    module, inputs = _make(subject), some_inputs()
    modules.same(module(longer(inputs)), module(inputs), "padding must not matter")


def small_batches_work(subject: Subject) -> None:
    """A batch of one row, and of two alike, gives finite numbers."""
    module, inputs = _make(subject), some_inputs()
    for rows in ([0], [0, 0]):
        modules.finite(module(rows_of(inputs, rows)), f"a batch of {len(rows)}")


def one_input_is_told(subject: Subject) -> None:
    """With a single input it works, or `unsuited` says that it does not."""
    context = Context("classification", (InputInfo("words", "text", ("words",)),), ROWS)
    if subject.cls.unsuited(context, subject.config) is None:
        module = _make(subject, {"words": WIDTHS["words"]})
        values = module({"words": some_inputs(missing=False)["words"]})
        modules.finite(values, "a single input must work, or unsuited must say why not")
        assert values.requires_grad, "a single input gives nothing to learn: unsuited must say so"


def gradients_reach_features_and_parameters(subject: Subject) -> None:
    """Every parameter of its own gets a finite gradient, and so do features: what learns nothing is no objective."""
    module = _make(subject)
    inputs = {name: Features(tokens.requires_grad_(), mask) for name, (tokens, mask) in some_inputs().items()}
    modules.gradients(module.objective, module(inputs).sum(), "with every combination of missing inputs")
    grads = [features.tokens.grad for features in inputs.values()]
    told = [grad for grad in grads if grad is not None]
    for grad in told:
        modules.finite(grad, "gradients of features")
    assert any(bool(grad.any()) for grad in told), "no gradient reaches the features: encoders would learn nothing"


def works_in_half_precision(subject: Subject) -> None:
    """Under bfloat16 autocast values and gradients are finite."""
    module = _make(subject)
    with torch.autocast("cpu", torch.bfloat16):
        values = module(some_inputs())
    modules.finite(values, "in bfloat16")
    modules.gradients(module.objective, values.float().sum(), "in bfloat16")


def random_numbers_are_torch_s(subject: Subject) -> None:
    """With torch's generator seeded alike it gives the same numbers."""
    module, inputs = _make(subject), some_inputs()
    assert torch.equal(module(inputs), module(inputs)), "the same seed must give the same numbers: draw with torch"


def minds_its_own_business(subject: Subject) -> None:
    """Building and calling it prints nothing and leaves global random states of others alone."""
    inputs = some_inputs()
    with modules.well_behaved("objective"):
        objective = subject.cls(subject.config, WIDTHS, JOINT)
        objective(inputs, lambda given: sum(f.tokens.sum((1, 2))[:, None] for f in given.values()).expand(-1, JOINT))


def leaves_inputs_alone(subject: Subject) -> None:
    """Inputs are not changed in place."""
    module, inputs = _make(subject), some_inputs()
    modules.unchanged(tensors_of(inputs).values(), lambda: module(inputs), "forward must not change its inputs")


def copies_and_reloads(subject: Subject) -> None:
    """Deep copies and state dictionaries keep the numbers."""
    inputs = some_inputs()
    modules.copies(_make(subject), lambda module: module(inputs), lambda: _make(subject))


def search_space_works(subject: Subject) -> None:
    """Both ends of the search space, and every choice, give finite values."""
    for config in subject.corners():
        modules.finite(_make(subject, config=config)(some_inputs()), f"with {config!r}")


def learns_a_planted_signal(subject: Subject) -> None:
    """Where all inputs show the same thing, training halves it."""
    generator = torch.Generator().manual_seed(0)
    shown = torch.randn(64, 3, generator=generator)
    mask = torch.ones(64, 1, dtype=torch.bool)
    inputs = {
        name: Features((shown @ torch.randn(3, width, generator=generator))[:, None], mask)
        for name, width in WIDTHS.items()
    }
    module = _make(subject)
    rule = "what is planted in all inputs must be learned"
    modules.learns(module.parameters(), lambda: module(inputs).mean(), rule, 150, (1e-2, 1e-1))


CHECKS = (
    one_value_per_row,
    any_input_may_be_missing,
    missing_tokens_do_not_matter,
    padding_does_not_matter,
    small_batches_work,
    one_input_is_told,
    gradients_reach_features_and_parameters,
    works_in_half_precision,
    random_numbers_are_torch_s,
    minds_its_own_business,
    leaves_inputs_alone,
    copies_and_reloads,
    search_space_works,
    learns_a_planted_signal,
)
