"""Checks of fusions, on three made-up inputs of several lengths in which every combination of inputs is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automm.api import nn, torch
from automm.core.features import Features
from automm.core.kinds import Fusion
from automm.testing import modules
from automm.testing.inputs import WIDTHS, longer, noisy, rows_of, some_inputs, tensors_of
from automm.testing.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor


EXPORTED = ("words", "picture")


def _make(subject: Subject, widths: Mapping[str, int] = WIDTHS, config: Any = None) -> Any:
    torch.manual_seed(0)
    return subject.cls(config or subject.config, widths).eval()


def _vector(module: Any, joint: Features) -> Tensor:
    """What a head sees in the end, [batch, width]: decisions count as the fusion weighs them."""
    if not module.decisions:
        return joint.mean()
    weights: Tensor = module.weigh(joint)
    return (joint.tokens * weights[:, :, None]).sum(1)


def gives_its_width(subject: Subject) -> None:
    """Joint features have the declared width and a mask; a vector is one token, or one per decision."""
    module = _make(subject)
    assert subject.cls.gives <= {"vector", "tokens", "aligned"}, f"gives: {subject.cls.gives}"
    assert isinstance(getattr(module, "width", None), int), "set self.width in __init__"
    for needs in sorted(subject.cls.gives & {"vector", "tokens"}):
        module.needs = needs
        tokens, mask = module(some_inputs())
        what = f"joint tokens where {needs} are needed"
        assert tokens.ndim == 3, f"{what}: shape {list(tokens.shape)} is not [batch, time, width]"
        assert (len(tokens), tokens.shape[2]) == (16, module.width), (
            f"{what}: {list(tokens.shape)}, width {module.width}"
        )
        assert mask.dtype == torch.bool, f"{what}: the mask must be bool, it is {mask.dtype}"
        assert mask.shape == tokens.shape[:2], f"{what}: mask {list(mask.shape)} for tokens {list(tokens.shape)}"
        if needs == "vector":
            time = module.decisions or 1
            assert tokens.shape[1] == time, f"time is {tokens.shape[1]}, for a vector it must be {time}"


def any_input_may_be_missing(subject: Subject) -> None:
    """Every combination of missing inputs, none left included, gives finite numbers and a real vector."""
    module = _make(subject)
    joint = module(some_inputs())
    modules.finite(joint.tokens, "missing inputs must not give NaN")
    if "vector" in subject.cls.gives:
        assert bool(joint.present.all()), "the joint vector is real even if every input is missing"


def decisions_add_up(subject: Subject) -> None:
    """The weights of decisions add to 1, and what is not real counts nothing."""
    module = _make(subject)
    if module.decisions:
        joint = module(some_inputs())
        weights = module.weigh(joint)
        assert weights.shape == joint.mask.shape, f"weigh gives {list(weights.shape)} for {list(joint.mask.shape)}"
        modules.same(weights.sum(1), torch.ones(len(weights)), "weights must add to 1")
        assert not bool(weights[~joint.mask].any()), "a decision whose mask is False must have weight 0"


def missing_tokens_do_not_matter(subject: Subject) -> None:
    """What stands behind an all-False mask, or in padding, changes nothing."""
    module, inputs = _make(subject), some_inputs()
    modules.same_features(module(noisy(inputs)), module(inputs), "masked tokens must not matter")


def padding_does_not_matter(subject: Subject) -> None:
    """More padding changes nothing."""
    module, inputs = _make(subject), some_inputs()
    modules.same_features(module(longer(inputs)), module(inputs), "padding must not matter")


def present_inputs_matter(subject: Subject) -> None:
    """Each present input changes the joint features."""
    module, inputs = _make(subject), some_inputs(missing=False)
    before = _vector(module, module(inputs))
    for name, (tokens, mask) in inputs.items():
        after = _vector(module, module({**inputs, name: Features(tokens.flip(0) + mask[:, :, None], mask)}))
        assert not torch.allclose(before, after, atol=1e-6), f"input {name!r} does not reach the joint features"


def rows_are_independent(subject: Subject) -> None:
    """A row alone gives what it gives in a batch."""
    module, inputs = _make(subject), some_inputs()
    joint = module(inputs)
    for row in (0, 3, 7):
        alone, whole = module(rows_of(inputs, [row])), Features(joint.tokens[[row]], joint.mask[[row]])
        modules.same_features(alone, whole, "a row alone must give what it gives in a batch")


def row_order_does_not_matter(subject: Subject) -> None:
    """Permuted rows give permuted features."""
    module, inputs = _make(subject), some_inputs()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    modules.same(
        module(rows_of(inputs, order)).mean(), module(inputs).mean()[order], "rows must not depend on their order"
    )


def one_input_is_enough(subject: Subject) -> None:
    """A model with a single input works."""
    module = _make(subject, {"words": WIDTHS["words"]})
    modules.finite(module({"words": some_inputs()["words"]}).tokens, "a single input must work")


def gradients_reach_every_parameter(subject: Subject) -> None:
    """Loss and gradients are finite, and every parameter gets one."""
    module = _make(subject)
    loss = _vector(module, module(some_inputs())).square().sum()
    modules.gradients(module, loss, "with every combination of missing inputs")
    trained = _make(subject).train()
    modules.finite(trained(some_inputs()).tokens, "in training")


def works_in_half_precision(subject: Subject) -> None:
    """Under bfloat16 autocast features and gradients are finite, and near those in 32 bit."""
    inputs = some_inputs()
    modules.half_precision(_make(subject), lambda module: _vector(module, module(inputs)), "in bfloat16")


def two_ranks_agree_with_one(subject: Subject) -> None:
    """Two processes of a job, each on half of the rows, get the gradients of one on all rows."""
    inputs = some_inputs()
    direction = torch.randn(16, _make(subject).width, generator=torch.Generator().manual_seed(0))

    def loss(module: Any, rows: range) -> Tensor:
        part = rows_of(inputs, slice(rows.start, rows.stop))
        return (_vector(module, module(part)) * direction[rows.start : rows.stop]).sum()

    modules.two_ranks(lambda: _make(subject), loss, 16)


def minds_its_own_business(subject: Subject) -> None:
    """Building and calling it prints nothing and leaves global random states alone."""
    inputs = some_inputs()
    with modules.well_behaved("fusion"):
        subject.cls(subject.config, WIDTHS).train()(inputs)


def leaves_inputs_alone(subject: Subject) -> None:
    """Inputs are not changed in place."""
    module, inputs = _make(subject).train(), some_inputs()
    modules.unchanged(tensors_of(inputs).values(), lambda: module(inputs), "forward must not change its inputs")


def eval_is_deterministic(subject: Subject) -> None:
    """In eval mode the same batch gives the same numbers."""
    module, inputs = _make(subject), some_inputs()
    assert torch.equal(module(inputs).tokens, module(inputs).tokens), "eval mode must be deterministic"


def copies_and_reloads(subject: Subject) -> None:
    """Deep copies and state dictionaries keep the numbers."""
    inputs = some_inputs()
    modules.copies(_make(subject), lambda module: module(inputs).mean(), lambda: _make_other(subject))


def _make_other(subject: Subject) -> Any:
    torch.manual_seed(1)
    return subject.cls(subject.config, WIDTHS)


def search_space_works(subject: Subject) -> None:
    """Both ends of the search space, and every choice, give finite features."""
    for config in subject.corners():
        module: Fusion = _make(subject, config=config)
        modules.finite(module(some_inputs()).tokens, f"with {config!r}")
        modules.finite(module.train()(some_inputs()).tokens, f"in training with {config!r}")


def learns_a_planted_signal(subject: Subject) -> None:
    """Learns a target that each of two inputs tells half of."""
    module, inputs = _make(subject), some_inputs(64, missing=False)
    target = inputs["words"].mean()[:, 0] + inputs["picture"].mean()[:, 0]
    torch.manual_seed(0)
    head = nn.Linear(module.width, 1)
    modules.learns(
        [*module.parameters(), *head.parameters()],
        lambda: (head(_vector(module, module(inputs)))[:, 0] - target).square().mean(),
        rule="a planted signal must be learned",
    )


def exports_a_graph(subject: Subject) -> None:
    """The exported graph agrees with the module at other batch sizes and lengths."""
    widths = {name: WIDTHS[name] for name in EXPORTED}  # a third input would only make the check longer

    def inputs(rows: int, seed: int = 0) -> dict[str, Features]:
        made = some_inputs(rows, seed)
        return {name: made[name] for name in widths}

    module = _flat(_make(subject, widths))
    dynamic = {f"{name}.{part}": {0: "batch", 1: name} for name in widths for part in ("tokens", "mask")}
    shorter = {n: Features(t[:, :2], m[:, :2]) for n, (t, m) in inputs(8, 2).items()}
    batches = [tensors_of(inputs(rows, 1)) for rows in (1, 4)] + [tensors_of(shorter)]
    modules.exports(module, batches, tensors_of(inputs(8)), dynamic)


def _flat(fusion: Any) -> Any:
    """The fusion as a module from plain tensors to answers."""

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fusion = fusion

        def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            names = dict.fromkeys(name.partition(".")[0] for name in batch)
            inputs = {name: Features(batch[f"{name}.tokens"], batch[f"{name}.mask"]) for name in names}
            return {"joint": _vector(self.fusion, self.fusion(inputs))}

    return Flat().eval()


CHECKS = (
    gives_its_width,
    any_input_may_be_missing,
    decisions_add_up,
    missing_tokens_do_not_matter,
    padding_does_not_matter,
    present_inputs_matter,
    rows_are_independent,
    row_order_does_not_matter,
    one_input_is_enough,
    gradients_reach_every_parameter,
    works_in_half_precision,
    two_ranks_agree_with_one,
    minds_its_own_business,
    leaves_inputs_alone,
    eval_is_deterministic,
    copies_and_reloads,
    search_space_works,
    learns_a_planted_signal,
    exports_a_graph,
)
