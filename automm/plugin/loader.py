"""Loading plugins from entry points and, where asked, from a local file."""

from __future__ import annotations

import difflib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

import pluggy

from automm.core.component import Component
from automm.errors import AutommError, MissingExtraError, PluginError, UsageError
from automm.plugin import hookspecs
from automm.plugin.manners import watched
from automm.plugin.registry import Owner, Registry

GROUP = "automm"
OLDEST_API = 1
latest: Plugins | None = None
"""What this process loaded last."""

State = Literal["loaded", "broken", "unavailable", "blocked", "outdated"]


@dataclass
class PluginStatus:
    """What became of one plugin.

    Attributes:
        owner: Plugin, distribution, version.
        state: loaded, broken (raised), unavailable (a package is missing), blocked (`--block`) or outdated (other API).
        reason: Why it is not loaded.
        details: The traceback, for `--debug`.
        file: The local file it came from; None for an installed plugin.
        complaints: What it does on loading that it must not do (print, set global seeds, load torch): one line each,
            with what to change. It is loaded all the same.
    """

    owner: Owner
    state: State
    reason: str = ""
    details: str = ""
    file: Path | None = None
    complaints: list[str] = field(default_factory=list)


@dataclass
class Plugins:
    """The loaded plugins: their components, their hooks and their states."""

    registry: Registry = field(default_factory=Registry)
    statuses: list[PluginStatus] = field(default_factory=list)
    manager: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager("automm"))

    def __post_init__(self) -> None:
        self.manager.add_hookspecs(hookspecs)

    def call(
        self,
        hook: str,
        warn: Callable[[str], None],
        wrong: Callable[[Any], str | None] = lambda _: None,
        **arguments: Any,
    ) -> list[Any]:
        """Calls a hook in every plugin; a plugin that raises is named to `warn` and skipped.

        Args:
            hook: Hook name.
            warn: Takes one line of text.
            wrong: Says what is wrong with a result, which is then skipped, too; None if nothing is.
            arguments: What the hook is given.

        Returns:
            The results that are not None, in order of registration.
        """
        results = []
        for impl in getattr(self.manager.hook, hook).get_hookimpls():
            try:
                result = impl.function(**{name: arguments[name] for name in impl.argnames})
            except AutommError:
                raise
            except Exception as problem:
                warn(f"plugin {impl.plugin_name}: hook {hook} raised {type(problem).__name__}: {problem}")
                continue
            if result is not None and (complaint := wrong(result)):
                warn(f"plugin {impl.plugin_name}: hook {hook} {complaint}")
            elif result is not None:
                results.append(result)
        return results

    def problems(self) -> list[str]:
        """One line per plugin that is broken or outdated, and per complaint about one that is loaded."""
        failed = [_line_of(status) for status in self.statuses if status.state in ("broken", "outdated")]
        loaded = [status for status in self.statuses if status.state == "loaded"]
        return failed + [f"plugin {status.owner}: {text}" for status in loaded for text in status.complaints]

    def absent(self) -> list[str]:
        """One line per plugin that is not loaded, whatever the reason."""
        return [_line_of(status) for status in self.statuses if status.state != "loaded"]


def _line_of(status: PluginStatus) -> str:
    return f"plugin {status.owner} is {status.state}: {status.reason}"


def load_plugins(*, block: Collection[str] = (), files: Collection[Path] = (), strict: bool = False) -> Plugins:
    """Loads all installed plugins and the named local files.

    Args:
        block: Plugin or distribution names to leave out.
        files: Local plugin files (`automm_plugins.py`); only those that a recipe or a flag names.
        strict: Raise if any plugin is broken, outdated or complained about.

    Raises:
        PluginError: If a local file cannot be loaded, or under `strict`.
        MissingExtraError: If a local file needs a package that is not installed.
        UsageError: If nothing has a name that is to be blocked.
    """
    plugins = Plugins()
    points = [(_owner(point), point) for point in entry_points(group=GROUP)]
    known = {name for owner, _ in points for name in (owner.plugin, owner.distribution)}
    if strangers := sorted(set(block) - known):
        raise UsageError(
            f"--block {strangers[0]}: no such plugin or distribution (there are: {', '.join(sorted(known))})"
        )
    for owner, point in sorted(points, key=lambda found: (found[0].distribution != "automm", found[0].plugin)):
        if owner.plugin in block or owner.distribution in block:
            plugins.statuses.append(PluginStatus(owner, "blocked", "blocked by --block"))
            continue
        plugins.statuses.append(_load(plugins, owner, point.load))
    plugins.registry.absent = plugins.absent()
    for file in {file.resolve(): file for file in files}.values():
        owner = Owner(file.stem, "local", "0")
        status = _load(plugins, owner, partial(_import_file, file))
        status.file = file
        plugins.statuses.append(status)
        if status.state != "loaded":
            error = MissingExtraError if status.state == "unavailable" else PluginError
            raise error(f"{file}: {status.reason}")
    if strict and plugins.problems():
        raise PluginError("\n".join(plugins.problems()))
    global latest
    latest = plugins
    return plugins


def _owner(point: EntryPoint) -> Owner:
    distribution = point.dist
    if distribution is None:
        return Owner(point.name, "unknown", "0")
    return Owner(point.name, distribution.name, distribution.version)


def _import_file(file: Path) -> Any:
    name = f"automm_local_{file.stem}"
    specification = importlib.util.spec_from_file_location(name, file)
    if specification is None or specification.loader is None or not file.is_file():
        raise PluginError("file not found, or not a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


def _load(plugins: Plugins, owner: Owner, load: Callable[[], Any]) -> PluginStatus:
    """Imports one plugin and lets it register; nothing of it stays if it raises."""
    with watched(importing=True) as seen:
        status = _try(plugins, owner, load)
    # What it prints must not end up in the JSON that a command writes to standard output.
    print(seen.printed, end="", file=sys.stderr)
    status.complaints = seen.complaints
    return status


def _try(plugins: Plugins, owner: Owner, load: Callable[[], Any]) -> PluginStatus:
    from automm.api import AUTOMM_API

    def register(cls: type[Component]) -> type[Component]:
        plugins.registry.add(cls, owner)
        return cls

    try:
        module = load()
        wanted = getattr(module, "AUTOMM_API", AUTOMM_API)
        if type(wanted) is not int:
            raise PluginError(f"AUTOMM_API must be a whole number, it is {wanted!r}")
        if not OLDEST_API <= wanted <= AUTOMM_API:
            newer = "upgrade automm" if wanted > AUTOMM_API else "upgrade the plugin"
            return PluginStatus(
                owner, "outdated", f"written for plugin API {wanted}, this automm has {AUTOMM_API}: {newer}"
            )
        name = str(getattr(module, "__name__", ""))
        for part in filter(None, (name, name.partition(".")[0])):
            plugins.registry.modules.setdefault(part, owner)
        plugins.manager.register(module, name=str(owner))
        for impl in plugins.manager.hook.automm_register.get_hookimpls():
            if impl.plugin is module:
                impl.function(register)
        plugins.manager.check_pending()
    except MissingExtraError as problem:
        status = PluginStatus(owner, "unavailable", str(problem))
    except ModuleNotFoundError as problem:
        missing = (problem.name or "").split(".")[0]
        status = PluginStatus(owner, "unavailable", f"needs the package {missing!r}: pip install {missing}")
    except ImportError as problem:
        status = PluginStatus(owner, "broken", f"ImportError: {problem}{_line(problem)}", traceback.format_exc())
        if absent := re.match(r"cannot import name '(\w+)' from 'automm\.api'", str(problem)):
            status.state, status.reason = "outdated", _absent_name(absent[1]) + _line(problem)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        reason = str(problem) if isinstance(problem, AutommError) else f"{type(problem).__name__}: {problem}"
        status = PluginStatus(owner, "broken", reason + _line(problem), traceback.format_exc())
    else:
        return PluginStatus(owner, "loaded")
    plugins.registry.remove(owner)
    if plugins.manager.has_plugin(str(owner)):
        plugins.manager.unregister(name=str(owner))
    return status


def _absent_name(name: str) -> str:
    """What to do about a name that `automm.api` does not have: a slip, or an interface of another version."""
    import automm
    from automm import api

    near = difflib.get_close_matches(name, api.__all__, 1, 0.75)
    if near:
        return f"automm.api has no {name!r}; did you mean {near[0]!r}?"
    return (
        f"automm.api has no {name!r} in automm {automm.__version__} (plugin API {api.AUTOMM_API}): upgrade automm to a "
        "version that has it, or leave it out"
    )


def _line(problem: BaseException) -> str:
    """` (file.py:12)`: the last line outside automm that led to the problem."""
    frames = [
        f for f in traceback.extract_tb(problem.__traceback__) if "automm/plugin/" not in f.filename.replace("\\", "/")
    ]
    frames = [f for f in frames if not f.filename.startswith("<")]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
