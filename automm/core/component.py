"""The base of every component, and the trick that lets one class be both a declaration and an `nn.Module`."""

from __future__ import annotations

import functools
import re
import types
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from automm.core.config import Config as BaseConfig
from automm.core.profile import Context

if TYPE_CHECKING:
    from torch.nn import Module as _Module
else:
    _Module = object


def snake(name: str) -> str:
    """`HfText` → `hf_text`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class Component:
    """A named piece that recipes choose and plugins register.

    Attributes:
        kind: What it is ("encoder", "fusion", …); set by the kind's base class.
        name: What recipes call it; by default the class name in snake case.
        Config: Its configuration.
    """

    kind: ClassVar[str] = ""
    name: ClassVar[str] = ""
    abstract: ClassVar[bool] = True

    class Config(BaseConfig):
        """No fields unless the component declares some."""

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.abstract = abstract
        if "name" not in cls.__dict__:
            cls.name = snake(cls.__name__)

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """Why this component does not fit the problem, in a few words; None if it fits.

        Args:
            context: The task, the target, the inputs and the number of rows.
            config: The configuration as the recipe fixed it (defaults elsewhere).
        """
        del context, config
        return None


@functools.cache
def _realise(cls: type[Any]) -> type[Any]:
    """The same class with `torch.nn.Module` among its bases."""
    from torch import nn

    if issubclass(cls, nn.Module):
        return cls
    body = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    realised: type[Any] = types.new_class(
        cls.__name__, (cls, nn.Module), {"abstract": cls.abstract}, lambda space: space.update(body, name=cls.name)
    )
    return realised


class ModuleComponent(Component, _Module, abstract=True):
    """A component that is a `torch.nn.Module` as soon as it is instantiated.

    Declaring the class needs no torch: `nn.Module` joins the bases when the first instance is made. So `automm check`,
    `automm schema` and `automm plugins list` work where torch is absent, and an author still writes one ordinary module
    class (`super().__init__()`, submodules, `forward`).
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Makes an instance of the class that is also a `torch.nn.Module`."""
        del args, kwargs
        return cast(Self, object.__new__(_realise(cast(Any, cls))))
