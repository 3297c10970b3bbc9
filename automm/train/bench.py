"""The workbench of a run: fitted processors, their arrays, and the views that trials train on."""

from __future__ import annotations

import copy
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from automm.cache.entries import IN_MEMORY
from automm.cache.place import cache_folder, writable
from automm.cache.space import Space
from automm.core.kinds import Encoder, Task
from automm.core.processor import Processor
from automm.core.profile import Context, InputInfo
from automm.data.arrays import ArrayStore, InputCells, cache_derived, cache_share
from automm.data.batches import sampling_weights
from automm.data.ledger import Ledger
from automm.data.split import strata
from automm.errors import DataError, TooDearError
from automm.model.frozen import Checkpoints
from automm.plan.model import Plan, PlannedInput, context_of
from automm.plan.prepare import Part
from automm.plugin.blame import blamed
from automm.plugin.registry import Registry
from automm.report.folder import storage_errors, write_json
from automm.runtime.state import join_state, split_state, write_npz
from automm.train.ranks import Ranks

if TYPE_CHECKING:
    from automm.train.extract import Extraction

DEAR = "computing all rows would take"
"""In the error of an encoder that the time that is left cannot pay for."""
PATIENCE = 4.0
"""Seconds after which it can be told how long something will take."""
EXTRACTED = 1
"""Version of how features are extracted: another one finds nothing of an earlier one in the cache."""
MEMORY = 4 * 2**30
"""Bytes of arrays that are kept open from trial to trial; the least recently used are closed first."""


class View(NamedTuple):
    """The rows of a part as one configuration sees them.

    Attributes:
        stores: Slug → arrays.
        processors: Slug → fitted processor.
        target: Coded targets of all rows of the part.
        positions: The rows to use, as positions into the stores and the target (no bad cell in any input).
    """

    stores: dict[str, ArrayStore]
    processors: dict[str, Processor]
    target: np.ndarray
    positions: np.ndarray


class Bench:
    """Makes processors and arrays when a configuration first needs them, and shares them over trials and ranks.

    Rank 0 fits and fills; the others read what it wrote.

    Args:
        registry: The components.
        plan: The plan.
        parts: "train", "valid", "test" → rows.
        task: The fitted task.
        folder: Where processors' states and arrays are kept.
        ledger: Where bad cells are noted.
        ranks: The processes of the job.
    """

    def __init__(
        self, registry: Registry, plan: Plan, parts: Mapping[str, Part], task: Task, folder: Path, ledger: Ledger,
        ranks: Ranks,
    ) -> None:  # fmt: skip
        self.registry, self.plan, self.parts, self.task, self.ranks = registry, plan, parts, task, ranks
        self.metric = plan.metric
        self._folder, self._ledger = folder, ledger
        self._cache = self._cache_folder()
        self.checkpoints = Checkpoints(registry, folder / "checkpoints")
        self.seconds: float | None = None  # what one configuration may spend on computing arrays and features
        self._inputs = {item.slug: item for item in plan.inputs}
        self._processors: dict[str, Processor] = {}
        self._asked: dict[str, Processor] = {}  # the same by what was asked for: to make one to compare takes its time
        self._stores: dict[tuple[str, str], ArrayStore] = {}

    def alone(self) -> Bench:
        """The same bench for this process only; what all share is computed before."""
        own = copy.copy(self)
        own.ranks, own.seconds = Ranks(), None
        own._processors, own._asked, own._stores = dict(self._processors), dict(self._asked), dict(self._stores)
        return own

    def pace(self, part: str, encoder: str) -> Callable[[int, int], None]:
        """What to tell of the progress of computing something of a part; it ends what cannot be done in `seconds`.

        Raises:
            TooDearError: From the returned function.
        """
        first: list[tuple[float, int]] = []  # what is loaded once is paid with the first piece
        rows = {name: len(own.rows) for name, own in self.parts.items()}
        # After the training rows the others are still to come.
        times = sum(rows.values()) / max(rows[part], 1) if part == "train" else 1.0

        def told(done: int, total: int) -> None:
            now = time.monotonic()
            first.append((now, done)) if not first else None
            spent, since = now - first[0][0], done - first[0][1]
            if self.seconds is not None and spent > PATIENCE and since:
                needed = spent / since * total * times
                if needed > self.seconds:
                    raise TooDearError(
                        f"encoder {encoder!r}: {DEAR} about {needed:.0f} s, the time budget of "
                        f"{self.plan.time or 0:.0f} s leaves {self.seconds:.0f} s for it; give search.time at least "
                        f"{self._enough(needed):.0f} s more, or leave it out"
                    )

        return told

    def _enough(self, needed: float) -> float:
        """Seconds by which the budget must grow, as it leaves a part of itself only."""
        share = (self.seconds or 0.0) / self.plan.time if self.plan.time else 1.0
        return (needed - (self.seconds or 0.0)) / max(share, 0.1)

    def _cache_folder(self) -> Path:
        """The cache, or a place in the run folder if not every rank sees and may write the same one."""
        cache = cache_folder()
        token = self.ranks.broadcast(uuid.uuid4().hex)
        good = writable(cache)
        if good and self.ranks.world > 1:
            if self.ranks.main:
                (cache / token).touch()
            self.ranks.gather(None)
            good = (cache / token).exists()
        good = all(self.ranks.gather(good))
        (cache / token).unlink(missing_ok=True) if self.ranks.main else None
        return cache if good else self._folder / "cache"

    def processor(self, slug: str, choice: Mapping[str, Any]) -> Processor:
        """The fitted processor of an input for an encoder choice ({"name", "config"})."""
        asked = json.dumps([slug, choice["name"], choice["config"]], sort_keys=True)
        if asked not in self._asked:
            self._asked[asked] = self._processor(slug, choice)
        return self._asked[asked]

    def _processor(self, slug: str, choice: Mapping[str, Any]) -> Processor:
        item = self._inputs[slug]
        cls: type[Encoder] = self.registry.get("encoder", choice["name"])
        with blamed(self.registry, cls, "processor"):
            processor = cls.processor(cls.Config.model_validate(choice["config"]), item.info)
        key = self._key(item, processor)
        if key not in self._processors:
            path = self._folder / "processors" / key
            self._processors[key] = self.ranks.first_then_all(lambda: self._fitted(processor, item.info, path))
        return self._processors[key]

    def take(self, slug: str, choice: Mapping[str, Any], fitted: Processor) -> bool:
        """Uses a processor that was fitted elsewhere in place of fitting one.

        Args:
            slug: The input.
            choice: The encoder choice that it feeds.
            fitted: The processor.

        Returns:
            Whether it does what this choice asks for; if not, nothing changes.
        """
        item, cls = self._inputs[slug], self.registry.get("encoder", choice["name"])
        with blamed(self.registry, cls, "processor"):
            wanted = cls.processor(cls.Config.model_validate(choice["config"]), item.info)
        if (wanted.op, wanted.version, wanted.config) != (fitted.op, fitted.version, fitted.config):
            return False
        self._processors[self._key(item, wanted)] = fitted
        self._asked.clear()
        return True

    def _key(self, item: PlannedInput, processor: Processor) -> str:
        content = [
            processor.op, processor.version, processor.config.model_dump(mode="json"), item.model_dump(mode="json"),
            self.plan.data, self.plan.rows, self.plan.seed,
        ]  # fmt: skip
        return f"{item.slug}-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]}"

    def _fitted(self, processor: Processor, info: InputInfo, path: Path) -> Processor:
        """The processor with its state; fitted now, or by another rank or an earlier run."""
        if not (path / "state.json").exists():
            part = self.parts["train"]
            try:
                with blamed(self.registry, type(processor), "fit"):
                    processor.fit(InputCells(processor, info, part.table, part.rows))
            except DataError as problem:
                raise DataError(f"input {info.name!r}: {problem}") from None
            plain, arrays = split_state(processor.state, caches=True)
            with storage_errors(path):
                path.mkdir(parents=True, exist_ok=True)
                (path / "state.npz").write_bytes(write_npz(arrays))
                write_json(path / "state.json", plain)
        state = join_state((path / "state.json").read_bytes(), (path / "state.npz").read_bytes(), str(path))
        return type(processor)(processor.config, state)

    def store(self, part: str, slug: str, choice: Mapping[str, Any]) -> ArrayStore:
        """The arrays of an input over the rows of a part."""
        processor, item = self.processor(slug, choice), self._inputs[slug]
        return self._shared(
            (part, self._key(item, processor)),
            lambda: self._build(part, processor, item, choice["name"]),
            lambda: self._cache_share(part, processor, item),
        )

    def _shared(self, key: tuple[str, str], build: Callable[[], ArrayStore], share: Callable[[], None]) -> ArrayStore:
        """A store that is open already, or else made by rank 0 and opened by all.

        Args:
            key: Names it.
            build: Makes it.
            share: Puts this rank's share of it into the cache first, where several ranks work.
        """
        if key not in self._stores and self.ranks.world > 1:
            with suppress(Exception):  # rank 0 meets it again below, where all ranks hear of it
                share()
            self.ranks.gather(None)
        store = self._stores.pop(key) if key in self._stores else self.ranks.first_then_all(build)
        self._stores[key] = store  # the last used comes last; all ranks close the same ones, so all build together
        while len(self._stores) > 1 and sum(map(_held, self._stores.values())) > MEMORY:
            del self._stores[next(iter(self._stores))]
        return store

    def features(self, part: str, slug: str, choice: Mapping[str, Any]) -> ArrayStore:
        """What a model reads of an input: the arrays, or what a frozen checkpoint makes of them, computed once."""
        store = self.store(part, slug, choice)
        cls: type[Encoder] = self.registry.get("encoder", choice["name"])
        config = cls.Config.model_validate(choice["config"])
        with blamed(self.registry, cls, "extracts"):
            if not (cls.extracts(config) and cls.pretrained(config)):
                return store
        fields = {name: value for name, value in choice["config"].items() if name not in cls.completing}
        content = [store.folder.name, choice["name"], fields]
        name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
        home = self._folder / "features" / name

        def build() -> ArrayStore:
            found = ArrayStore.open(home)
            if found is not None:
                return found
            space, extraction = self._extraction(store, slug, choice, fields)
            return ArrayStore.derive(home, store, space, extraction, self.pace(part, choice["name"]))

        def share() -> None:
            if ArrayStore.open(home) is None:
                own = store.firsts[self.ranks.rank :: self.ranks.world]
                space, extraction = self._extraction(store, slug, choice, fields)
                cache_derived(store, own, space, extraction, self.pace(part, choice["name"]))

        return self._shared((part, name), build, share)

    def _extraction(
        self, store: ArrayStore, slug: str, choice: Mapping[str, Any], fields: Mapping[str, Any]
    ) -> tuple[Space, Extraction]:
        """The space of an encoder with its weights, and what computes what is missing there."""
        import torch

        from automm.train.extract import Extraction, extracted_specs
        from automm.train.run import device

        processor = self.processor(slug, choice)
        # The trial's random numbers must not depend on whether the features were there already.
        with torch.random.fork_rng(devices=[]):
            encoder = self.checkpoints.encoder(choice, processor, own=True)  # it goes to the device
        weights = self.checkpoints.fingerprint(encoder, choice, processor)
        how = [EXTRACTED, choice["name"], fields, weights, device().type]
        extraction = Extraction(encoder, store, device(), self.registry)
        return Space(self._cache, how, extracted_specs(extraction.width), choice["name"]), extraction

    def _build(self, part: str, processor: Processor, item: PlannedInput, encoder: str) -> ArrayStore:
        table, rows = self.parts[part].table, self.parts[part].rows
        with blamed(self.registry, type(processor), "__call__"):
            return ArrayStore.build(
                self._folder / "arrays", processor, item.info, table, rows,
                lambda row, column, reason: self._ledger.add(table.name, row, column, reason),
                self.pace(part, encoder), self._cache,
            )  # fmt: skip

    def _cache_share(self, part: str, processor: Processor, item: PlannedInput) -> None:
        own = self.parts[part]
        with blamed(self.registry, type(processor), "__call__"):
            cache_share(
                self._folder / "arrays", processor, item.info, own.table, own.rows, self._cache,
                (self.ranks.rank, self.ranks.world),
            )  # fmt: skip

    def context(self, resolved: Mapping[str, Any]) -> Context:
        """The problem as it stands before a configuration, which may do without some inputs."""
        return context_of(
            tuple(self._inputs[slug] for slug in resolved["encoders"]), task=self.task.name,
            rows=self.plan.rows["train"], target=self.task.target(), needs=self.task.needs, metric=self.metric,
        )  # fmt: skip

    def view(self, part: str, resolved: Mapping[str, Any]) -> View:
        """What a configuration sees of a part."""
        stores = {slug: self.features(part, slug, choice) for slug, choice in resolved["encoders"].items()}
        processors = {slug: self.processor(slug, choice) for slug, choice in resolved["encoders"].items()}
        bad = np.zeros(len(self.parts[part].rows), bool)
        for store in stores.values():
            bad |= store.bad
        return View(stores, processors, self.parts[part].target, np.flatnonzero(~bad))

    def sampling(self, view: View, method: str) -> dict[str, Any]:
        """What `Batches` needs to draw rows against imbalance; nothing if every row is taken once an epoch."""
        if method == "none":
            return {}
        weights, draws = sampling_weights(strata(view.target[view.positions]), cast(Any, method))
        return {"weights": weights, "draws": draws}


def _held(store: ArrayStore) -> int:
    """Bytes of a store that are in memory."""
    return store.nbytes if store.nbytes < IN_MEMORY else 0
