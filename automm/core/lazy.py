"""Modules that are imported on first use, so that declarations stay torch-free."""

from __future__ import annotations

import importlib
import types
from typing import Any


class LazyModule(types.ModuleType):
    """A stand-in that imports the module when an attribute is first asked for.

    After that first use every attribute is a plain dictionary look-up. `sys.modules` is not touched: code that asks
    "is torch loaded?" still gets a true answer.
    """

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__") and attribute != "__version__":
            raise AttributeError(attribute)
        module = importlib.import_module(self.__name__)
        self.__dict__.update({k: v for k, v in vars(module).items() if not k.startswith("__")})
        return getattr(module, attribute)
