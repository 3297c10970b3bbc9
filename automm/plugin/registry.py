"""The registry of components: what exists, who owns it, and finding it by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from automm.core.component import Component
from automm.core.compressor import METHODS, STAGES
from automm.core.config import Config
from automm.core.kinds import KINDS
from automm.errors import PluginError

REQUIRED: dict[str, tuple[str, ...]] = {
    "modality": ("claim",),
    "encoder": ("processor", "__init__", "forward"),
    "fusion": ("__init__", "forward"),
    "learner": ("fit", "forward"),
    "loss": ("forward",),
    "objective": ("__init__", "forward"),
    "task": ("claim", "metric_names", "fit", "encode", "target", "head", "answer", "metrics", "decoder"),
    "exporter": (),
    "compressor": (),
    "processor": ("specs",),
    "decoder": ("columns", "decode"),
}
"""Kind → the methods an author must write."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "encoder": ("modality",),
    "learner": ("targets",),
    "loss": ("targets",),
    "task": ("target_kind",),
    "processor": ("op",),
    "decoder": ("op",),
}
"""Kind → the class attributes an author must set."""
PARTS = ("task", "fusion", "loss", "objective", "learner")
"""The kinds of which a resolved configuration names one at most."""


@dataclass(frozen=True)
class Owner:
    """Where a component comes from."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.plugin} ({self.distribution} {self.version})"


@dataclass(frozen=True)
class Entry:
    """A registered component."""

    cls: type[Component]
    owner: Owner

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.cls.kind

    @property
    def name(self) -> str:
        """Its name."""
        return self.cls.name


def kind_of(cls: object) -> str:
    """The kind of a component class.

    Raises:
        PluginError: If it inherits from none of the kinds.
    """
    if isinstance(cls, type):
        for kind, base in KINDS.items():
            if issubclass(cls, base):
                return kind
    bases = ", ".join(base.__name__ for base in KINDS.values())
    raise PluginError(f"register({cls!r}): a component is a class that inherits from one of {bases}")


def validate(cls: type[Component]) -> str:
    """Checks a component class as far as is possible without an instance.

    Returns:
        Its kind.

    Raises:
        PluginError: Naming the class, what is wrong and what to change.
    """
    kind = kind_of(cls)
    base = KINDS[kind]
    where = f"{kind} {cls.__name__}"
    if cls.abstract:
        raise PluginError(f"{where} is abstract; register its subclasses")
    if not cls.name.replace("_", "").replace(".", "").isalnum() or cls.name != cls.name.lower():
        raise PluginError(f"{where}: the name {cls.name!r} must be lower case letters, digits and underscores")
    needed, inherited = (
        (base.Config, f"{base.__name__}.Config") if "Config" in vars(base) else (Config, "automm.api.Config")
    )
    if not (isinstance(cls.Config, type) and issubclass(cls.Config, needed)):
        raise PluginError(f"{where}: Config must inherit from {inherited}")
    for attribute in ATTRIBUTES.get(kind, ()):
        if not getattr(cls, attribute, None):
            raise PluginError(f"{where}: set the class attribute `{attribute}`")
    for method in _required(cls, kind, base):
        if getattr(cls, method, None) is getattr(base, method, None):
            raise PluginError(f"{where}: write the method `{method}`{_signature(base, method)}")
    if kind == "processor" and cls.load is base.load and cls.__call__ is base.__call__:  # type: ignore[attr-defined]
        raise PluginError(f"{where}: write the method `load(self, cell)` (or `__call__` for many columns)")
    if kind == "exporter":
        _exports(where, base, cls)
    if kind == "compressor":
        _compresses(where, cls)
    for method in (*REQUIRED[kind], "unsuited"):
        _same_arguments(where, base, cls, method)
    return kind


def _required(cls: Any, kind: str, base: Any) -> tuple[str, ...]:
    """The methods an author must write: an encoder may split its forward, the network is trained by automm itself."""
    if kind == "encoder" and (cls.extract is not base.extract or cls.complete is not base.complete):
        return "processor", "__init__", "extracts", "extract", "complete"
    return () if getattr(cls, "by_gradient", False) else REQUIRED[kind]


EXPORTS = {"graph": "export_graph", "folder": "export_package"}
"""What an exporter makes → the method that makes it."""


def _exports(where: str, base: type[Any], cls: type[Any]) -> None:
    """An exporter has the method for what it makes."""
    if cls.makes not in EXPORTS:
        raise PluginError(f"{where}: the class attribute `makes` must be {' or '.join(EXPORTS)}, it is {cls.makes!r}")
    method = EXPORTS[cls.makes]
    if getattr(cls, method) is getattr(base, method):
        raise PluginError(f"{where}: write the method `{method}`{_signature(base, method)}, or set `makes`")
    _same_arguments(where, base, cls, method)


def _compresses(where: str, cls: type[Any]) -> None:
    """A compressor inherits from the base of its stage and has its method."""
    base = STAGES.get(cls.stage)
    if base is None or not issubclass(cls, base):
        names = ", ".join(stage.__name__ for stage in STAGES.values())
        raise PluginError(f"{where}: inherit from the base of its stage ({names})")
    method = METHODS[cls.stage]
    if getattr(cls, method) is getattr(base, method):
        raise PluginError(f"{where}: write the method `{method}`{_signature(base, method)}")
    if not issubclass(cls.Config, base.Config):
        raise PluginError(f"{where}: Config must inherit from {base.__name__}.Config")
    _same_arguments(where, base, cls, method)


def _signature(base: type, method: str) -> str:
    return str(inspect.signature(getattr(base, method))) if hasattr(base, method) else ""


def _same_arguments(where: str, base: type, cls: type, method: str) -> None:
    """The method must accept as many positional arguments as automm passes."""
    if not hasattr(base, method):
        return
    mine, theirs = inspect.signature(getattr(cls, method)), inspect.signature(getattr(base, method))
    passed = [p for p in theirs.parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    try:
        mine.bind(*[None] * len(passed))
    except TypeError:
        raise PluginError(f"{where}: {method}{mine} must accept {method}{theirs}") from None


@dataclass
class Registry:
    """All components of all loaded plugins."""

    entries: dict[str, dict[str, list[Entry]]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    absent: list[str] = field(default_factory=list)
    """One line per plugin that is not loaded; they follow every message about a component that is not there."""
    modules: dict[str, Owner] = field(default_factory=dict)
    """Module, and top-level package, of a plugin → the plugin: whose code raised is told by the module it stands in."""

    def add(self, cls: type[Component], owner: Owner) -> None:
        """Adds a validated class.

        Raises:
            PluginError: If the class is unfit, or the same owner registers a name twice.
        """
        kind = validate(cls)
        others = self.entries[kind].setdefault(cls.name, [])
        if any(entry.owner == owner for entry in others):
            raise PluginError(f"{kind} {cls.name!r} is registered twice by plugin {owner}")
        others.append(Entry(cls, owner))

    def remove(self, owner: Owner) -> None:
        """Forgets everything that a plugin registered."""
        for names in self.entries.values():
            for name in list(names):
                names[name] = [entry for entry in names[name] if entry.owner != owner]
                if not names[name]:
                    del names[name]
        self.modules = {module: other for module, other in self.modules.items() if other != owner}

    def names(self, kind: str) -> list[str]:
        """The names of a kind, sorted; a name that two plugins use appears as `owner:name` of each."""
        found: list[str] = []
        for name, entries in self.entries[kind].items():
            found += [name] if len(entries) == 1 else _owned(entries)
        return sorted(found)

    def all(self, kind: str | None = None) -> list[Entry]:
        """Every entry (of one kind), in order of kind, then name."""
        kinds = [kind] if kind else list(KINDS)
        return [entry for k in kinds for name in sorted(self.entries[k]) for entry in self.entries[k][name]]

    def entry(self, kind: str, name: str) -> Entry:
        """Finds a component by `name` or `owner:name` (owner = plugin or distribution).

        Raises:
            PluginError: If it is unknown (with the nearest names) or ambiguous (with how to choose).
        """
        owner, _, short = name.rpartition(":")
        entries = self.entries[kind].get(short, [])
        if owner:
            entries = [entry for entry in entries if owner in (entry.owner.plugin, entry.owner.distribution)]
        if len(entries) == 1:
            return entries[0]
        if not entries:
            raise PluginError(self.unknown(kind, name))
        choices = " or ".join(_owned(self.entries[kind][short]))
        raise PluginError(f"{kind} {short!r} is offered by {len(entries)} plugins; write {choices}")

    def get(self, kind: str, name: str) -> Any:
        """The class of a component; see `entry`."""
        return self.entry(kind, name).cls

    def unknown(self, kind: str, name: str) -> str:
        """The message for a name that does not exist."""
        names = self.names(kind)
        near = difflib.get_close_matches(name, names, 1, 0.6)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return "\n".join([f"unknown {kind} {name!r}{hint} (there are: {', '.join(names) or 'none'})", *self.absent])

    def need(self, *kinds: str) -> None:
        """Raises unless there is at least one component of every kind.

        Raises:
            PluginError: With the plugins that are not loaded.
        """
        for kind in kinds:
            if not self.entries[kind]:
                raise PluginError("\n".join([f"no {kind} is installed", *self.absent]))

    def entry_of(self, cls: type) -> Entry | None:
        """The entry of a class (or of the class it was realised from); None if it is not registered."""
        known = {entry.cls: entry for entry in self.all()}
        return next((known[base] for base in cls.__mro__ if base in known), None)

    def owner(self, cls: type) -> Owner | None:
        """Who registered a class."""
        entry = self.entry_of(cls)
        return entry.owner if entry else None

    def owner_of(self, cls: type) -> Owner | None:
        """Who offers a class: who registered it, else (a processor, a helper) the plugin whose module it stands in."""
        return self.owner(cls) or self.owner_of_module(cls.__module__)

    def owner_of_module(self, module: str) -> Owner | None:
        """The plugin that a module belongs to, by the longest known part of its name."""
        while module and module not in self.modules:
            module = module.rpartition(".")[0]
        return self.modules.get(module)

    def pins(self, resolved: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        """The version of every component of a resolved configuration.

        Returns:
            "kind name" → "plugin", "distribution" and "version" of its owner.
        """
        choices = [(kind, resolved[kind]["name"]) for kind in PARTS if kind in resolved]
        choices += [("encoder", choice["name"]) for choice in resolved["encoders"].values()]
        owners = {f"{kind} {name}": self.entry(kind, name).owner for kind, name in choices}
        return {name: asdict(owner) for name, owner in sorted(owners.items())}

    def unique_name(self, entry: Entry) -> str:
        """The name by which `get` finds this entry and no other: `owner:name` where plugins share the name."""
        same = self.entries[entry.kind][entry.name]
        return entry.name if len(same) == 1 else _owned(same)[same.index(entry)]


def _owned(entries: Sequence[Entry]) -> list[str]:
    """`owner:name` of entries that share a name; the owner is the distribution where plugins share theirs, too."""
    plugins = [entry.owner.plugin for entry in entries]
    return [
        f"{e.owner.plugin if plugins.count(e.owner.plugin) == 1 else e.owner.distribution}:{e.name}" for e in entries
    ]
