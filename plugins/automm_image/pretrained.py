"""Models of transformers: their layers, the parts that are not used."""

from __future__ import annotations

from typing import Any

from automm.api import DataError, nn, torch


def vision_part(model: Any, name: str) -> Any:
    """The part of a model that takes pictures.

    Raises:
        DataError: If it has none.
    """
    model = getattr(model, "vision_model", model)
    if model.main_input_name != "pixel_values":
        raise DataError(f"checkpoint {name} is a {model.config.model_type}, which does not take pictures")
    return model


def split_layers(model: nn.Module) -> list[nn.Module]:
    """What stands before the blocks, then every block; what follows them belongs to the last one."""
    path = _largest_list(model)
    if path is None:
        return list(model.children())
    before, after, here = [], [], model
    for step in path.split("."):
        names = [name for name, _ in here.named_children()]
        at = names.index(step)
        children = list(here.children())
        before += children[:at]
        after += children[at + 1 :]
        here = children[at]
    *early, last = here
    return [nn.ModuleList(before), *early, nn.ModuleList([last, *after])]


def _largest_list(model: nn.Module) -> str | None:
    """Path of the blocks: the outermost `ModuleList` with most of the parameters."""
    total = sum(p.numel() for p in model.parameters())
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and 2 * sum(p.numel() for p in module.parameters()) > total:
            return path
    return None


def drop_unused(model: nn.Module, features: torch.Tensor) -> None:
    """Makes constants of the parameters that the features do not depend on (a pooler, a mask token): never trained.

    Args:
        model: The checkpoint's model.
        features: What it gave, with its graph.
    """
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    unused = {id(p) for p, gradient in zip(parameters, gradients, strict=True) if gradient is None}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in unused:
                delattr(module, name)
                module.register_buffer(
                    name, torch.zeros_like(parameter)
                )  # where it is not in the checkpoint, it is random
