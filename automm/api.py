"""Everything that a plugin needs, and the only module of automm that a plugin imports.

`torch`, `nn` and `F` are imported on first use, so a plugin that takes them from here is declared without torch.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from automm.core.arrays import ArraySpec, collate
from automm.core.cells import as_text, is_null, parse_boolean, parse_date, parse_number
from automm.core.checkpoints import find_checkpoint, has_weights, read_checkpoint_json
from automm.core.component import Component, ModuleComponent
from automm.core.compressor import GraphCompressor, ModelCompressor, NotCompressible, StudentCompressor
from automm.core.config import Config, RecipePath, Tune
from automm.core.decoder import Decoder
from automm.core.features import Features
from automm.core.figures import Figure
from automm.core.halves import gain_of, halves
from automm.core.kinds import ADAPT, Encoder, Examples, Exporter, Fusion, Graph, Loss, Metric, Modality, Task
from automm.core.lazy import LazyModule
from automm.core.learner import Learner, Rows
from automm.core.objective import Objective
from automm.core.pretrained import PretrainedEncoder, load_checkpoint
from automm.core.processor import BadCell, BadCells, Processor, read_media
from automm.core.profile import Claim, ColumnProfile, Context, InputInfo, TargetInfo, claim_files
from automm.core.vectors import VectorEncoder
from automm.errors import AutommError, DataError, MissingExtraError, PackageError, PluginError, VerificationError
from automm.plugin.deprecation import RENAMED, RemovedInAutomm2Warning, warn_removed
from automm.plugin.hookspecs import hookimpl
from automm.plugin.lookup import find_component, find_operation
from automm.plugin.packages import copy_package, load_package, read_manifest

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import nn
else:
    torch = LazyModule("torch")
    nn = LazyModule("torch.nn")
    F = LazyModule("torch.nn.functional")

AUTOMM_API = 1
"""The version of this interface; raised when something is taken away."""

__all__ = [
    "ADAPT",
    "AUTOMM_API",
    "ArraySpec",
    "AutommError",
    "BadCell",
    "BadCells",
    "Claim",
    "ColumnProfile",
    "Component",
    "Config",
    "Context",
    "DataError",
    "Decoder",
    "Encoder",
    "Examples",
    "Exporter",
    "F",
    "Features",
    "Figure",
    "Fusion",
    "Graph",
    "GraphCompressor",
    "InputInfo",
    "Learner",
    "Loss",
    "Metric",
    "MissingExtraError",
    "Modality",
    "ModelCompressor",
    "ModuleComponent",
    "NotCompressible",
    "Objective",
    "PackageError",
    "PluginError",
    "PretrainedEncoder",
    "Processor",
    "RecipePath",
    "RemovedInAutomm2Warning",
    "Rows",
    "StudentCompressor",
    "TargetInfo",
    "Task",
    "Tune",
    "VectorEncoder",
    "VerificationError",
    "as_text",
    "claim_files",
    "collate",
    "copy_package",
    "find_checkpoint",
    "find_component",
    "find_operation",
    "gain_of",
    "halves",
    "has_weights",
    "hookimpl",
    "is_null",
    "load_checkpoint",
    "load_package",
    "nn",
    "parse_boolean",
    "parse_date",
    "parse_number",
    "read_checkpoint_json",
    "read_manifest",
    "read_media",
    "torch",
]


def __getattr__(name: str) -> Any:
    """A renamed name works, with a warning, until the next major version."""
    if name not in RENAMED:
        raise AttributeError(f"module 'automm.api' has no attribute {name!r}")
    warn_removed(f"automm.api.{name}", f"automm.api.{RENAMED[name].new}", RENAMED[name].since)
    return getattr(sys.modules[__name__], RENAMED[name].new)
