"""The models of a server, their versions, and how new versions take over.

A source is a package, or a folder of versions: subfolders that hold a package each. Folders are looked at every few
seconds. A new or changed package is loaded beside the old one, its goldens are run, and only then it takes over;
requests that already hold the old one finish with it. A package that does not load changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from automm.errors import AutommError, PackageError
from automm.runtime.predictor import Predictions, Predictor, load
from automm.serve.batching import Batcher
from automm.serve.examples import examples
from automm.serve.folders import Stamp, look, order
from automm.serve.logs import log
from automm.serve.metrics import Metrics, ModelMetrics
from automm.serve.problems import Problem, busy
from automm.serve.schema import Schema, schema
from automm.serve.settings import Settings


@dataclass(frozen=True, eq=False)
class Version:
    """A loaded package.

    Attributes:
        model: Name of its model.
        name: Name of the version.
        predictor: Predicts.
        batcher: Predicts rows of many requests together.
        schema: What it reads and answers.
        metrics: Where its rows are counted.
        examples: Rows to show, if the operator wants that.
    """

    model: str
    name: str
    predictor: Predictor
    batcher: Batcher
    schema: Schema
    metrics: ModelMetrics
    examples: list[dict[str, Any]]

    @property
    def digest(self) -> str:
        """Names the package and no other."""
        return self.predictor.package.digest


@dataclass(eq=False)
class Model:
    """A name under which packages are served.

    Attributes:
        name: The name.
        source: Package folder, or folder of versions.
        versions: Version name → loaded package.
        seen: Version name → what its folder looked like when it was loaded, or failed to.
        problem: Why the last package that could not be loaded could not.
    """

    name: str
    source: Path
    versions: dict[str, Version] = field(default_factory=dict)
    seen: dict[str, Stamp] = field(default_factory=dict)
    problem: AutommError | None = None

    @property
    def newest(self) -> Version | None:
        """The highest version: 10 is above 9."""
        return self.versions[max(self.versions, key=order)] if self.versions else None

    def names(self) -> list[str]:
        """The versions that are served, the lowest first."""
        return sorted(self.versions, key=order)


class Models:
    """All models of a worker.

    Args:
        settings: What to serve, and how.
        pool: Where models run.
        metrics: The worker's metrics.
    """

    def __init__(self, settings: Settings, pool: Executor, metrics: Metrics) -> None:
        self._settings, self._pool, self._metrics = settings, pool, metrics
        self.models = {name: Model(name, source) for name, source in settings.sources.items()}
        self.loaded = asyncio.Event()
        self._changed: list[Callable[[], None]] = []

    @property
    def ready(self) -> bool:
        """Whether every model has a version whose goldens passed."""
        return all(model.versions for model in self.models.values())

    def find(self, name: str | None = None, version: str | None = None) -> Version:
        """The version that answers a request.

        Args:
            name: Model name; None: the first model.
            version: Version name; None: the highest.

        Raises:
            Problem: 404 if there is no such model or version, 503 if none is loaded yet.
        """
        model = next(iter(self.models.values())) if name is None else self.models.get(name)
        if model is None:
            raise Problem(404, f"there is no such model; there are: {', '.join(self.models)}")
        found = model.newest if version is None else model.versions.get(version)
        if found is not None:
            return found
        if not model.versions:
            raise busy(503, f"the model {model.name!r} is not loaded yet")
        raise Problem(404, f"the model {model.name!r} has no such version; it has: {', '.join(model.names())}")

    def on_change(self, call: Callable[[], None]) -> None:
        """Calls back whenever a version came or went."""
        self._changed.append(call)

    async def watch(self) -> None:
        """Loads everything, then looks for changes for ever.

        Raises:
            AutommError: If at the first look a model has packages and none of them can be loaded.
        """
        await self.refresh()
        for model in self.models.values():
            if model.problem is not None and not model.versions:
                raise model.problem
        self.loaded.set()
        while self._settings.poll:
            await asyncio.sleep(self._settings.poll)
            await self.refresh()

    async def refresh(self) -> None:
        """Takes over what changed in the folders."""
        for model in self.models.values():
            found = await asyncio.to_thread(look, model.source)
            for name in sorted(found, key=order, reverse=True):
                if model.seen.get(name) != found[name][1]:
                    await self._take_over(model, name, *found[name])
            for name in [name for name in model.versions if name not in found]:
                # The last one stays: a folder that is just being replaced is gone for a moment.
                if len(model.versions) > 1:
                    self._retire(model, name)

    async def _take_over(self, model: Model, name: str, path: Path, stamp: Stamp) -> None:
        started = time.perf_counter()
        try:
            new = await asyncio.to_thread(self._load, model.name, name, path)
        except Exception as problem:
            model.seen[name] = stamp
            model.problem = problem if isinstance(problem, AutommError) else PackageError(f"{path}: {problem}")
            self._metrics.loads.labels(model.name, "failed").inc()
            # A package's messages are about the package, never about a request.
            log("package refused", level=40, model=model.name, version=name, reason=str(model.problem))
            return
        old = model.versions.get(name)
        model.seen[name] = stamp
        if old is not None and old.digest == new.digest:
            return
        if old is not None:
            self._metrics.ready.labels(model.name, name, old.digest).set(0)
        model.versions[name] = new
        self._metrics.ready.labels(model.name, name, new.digest).set(1)
        self._metrics.loads.labels(model.name, "loaded").inc()
        seconds = round(time.perf_counter() - started, 3)
        log("package loaded", model=model.name, version=name, digest=new.digest, seconds=seconds)
        self._tell()

    def _load(self, model: str, name: str, path: Path) -> Version:
        settings = self._settings
        threads = settings.threads or max(1, len(os.sched_getaffinity(0)) // settings.workers)
        predictor = load(path, threads=threads)
        watched = ModelMetrics(self._metrics, model, name)
        batcher = Batcher(partial(predict, predictor), settings.batching, self._pool, watched)
        described = schema(predictor.package)
        shown = examples(predictor.package, described) if settings.examples else []
        return Version(model, name, predictor, batcher, described, watched, shown)

    def _retire(self, model: Model, name: str) -> None:
        old = model.versions.pop(name)
        model.seen.pop(name, None)
        self._metrics.ready.labels(model.name, name, old.digest).set(0)
        log("package retired", model=model.name, version=name, digest=old.digest)
        self._tell()

    def _tell(self) -> None:
        for call in self._changed:
            call()


def predict(predictor: Predictor, table: Mapping[str, Any], rows: int) -> Predictions:
    """Predictions of a complete table; media cells are bytes, no path is ever opened."""
    ((_, found),) = predictor.predict_chunks([(range(rows), table)], folder=None)
    return found
