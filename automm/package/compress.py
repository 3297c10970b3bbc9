"""Compression: variants of the trained model are measured beside it, and the best within the loss is packaged."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch

from automm.core.kinds import Exporter, Graph
from automm.errors import AutommError
from automm.package.assembled import VERIFY_ROWS
from automm.package.chains import Pupil, Seen, chains, shown
from automm.package.content import PackageContent, PackageInput
from automm.package.frontier import Loss, Paired, answers_of, arrays_of, frontier, speeds
from automm.package.variants import Made, Maker, Variant
from automm.package.verify import VerificationReport, verify_package
from automm.package.write import GRAPH, put_in_place, write_package
from automm.runtime.manifest import Tolerance
from automm.runtime.session import Session
from automm.train.module import measure

if TYPE_CHECKING:
    from automm.run import Member, Run

FULL = "full"
"""Name of the model as it was trained."""
UNBUDGETED = 120.0
"""Seconds that compression may take without a time budget, or as long as the run took until then."""
RANKS_SECONDS = 1200.0
"""The same where other processes wait."""
FASTER, SMALLER, SLOWER = 1.1, 0.9, 0.95
"""What counts as a gain: so many times as fast; or so much of the size while not slower than that."""
ALIKE = 0.9
"""Variants with this share of the best speed count as equally fast: the smallest is taken."""
TYPICAL = 0.99
"""Quantile of the differences that quantisation makes: another CPU may round by as much."""


class Outcome(NamedTuple):
    """What compression did.

    Attributes:
        table: For the summary: see docs/run-folder.md.
        metrics: Metrics of what the package holds now; None: nothing was adopted.
        verified: The verification of the new package.
    """

    table: dict[str, Any]
    metrics: dict[str, Any] | None = None
    verified: VerificationReport | None = None


def compress(
    run: Run, package: Path, content: PackageContent, module: torch.nn.Module, members: Sequence[Member], side: str,
    rows: Sequence[dict[str, Any]], own: Seen, students: dict[str, Pupil], metrics: dict[str, Any],
) -> Outcome:  # fmt: skip
    """Tries the recipe's variants and puts the best into the package. Rank 0 only.

    Whatever goes wrong, the package is whole: at worst it holds the full model, as before.

    Args:
        run: The run.
        package: The package with the full model; replaced if a variant is adopted.
        content: What it was written from.
        module: The full model.
        members: The models in it.
        side: The part that `rows` are from.
        rows: Raw rows to verify with.
        own: What the full model reads.
        students: The students by the key of their step.
        metrics: Metrics of the full model.
    """
    work = _Compression(run, package, content, module, members, own, students)
    try:
        outcome = work.outcome(side, rows, metrics)
    except Exception as problem:  # a loss of the finished package would be out of proportion
        said = str(problem) if isinstance(problem, AutommError) else f"{type(problem).__name__}: {problem}"
        run.warn(f"compression failed, the package holds the full model: {said}")
        outcome = Outcome(work.table([], None))
    for variant in outcome.table["variants"]:
        run.event("variant", **variant)
    run.event("compressed", adopted=outcome.table["adopted"], seconds=outcome.table["seconds"])
    return outcome


class _Compression:
    def __init__(
        self, run: Run, package: Path, content: PackageContent, module: torch.nn.Module, members: Sequence[Member],
        own: Seen, students: dict[str, Pupil],
    ) -> None:  # fmt: skip
        assert run.recipe.compress is not None
        self.run, self.package, self.content, self.members, self.own = run, package, content, members, own
        self.asked, self.began = run.recipe.compress, time.monotonic()
        self.graph = (package / GRAPH).read_bytes()
        self.maker = Maker(run, self.graph, module, members, own, students, content.exporter, self._deadline())

    def _deadline(self) -> float:
        """When it must be over."""
        end = self.run.compress_deadline
        if end is None:
            end = self.began + max(UNBUDGETED, self.began - self.run.began)
        return end if self.run.ranks.world == 1 else min(end, self.began + RANKS_SECONDS)

    def outcome(self, side: str, rows: Sequence[dict[str, Any]], metrics: dict[str, Any]) -> Outcome:
        """Makes, measures, chooses, writes."""
        wanted = chains(self.run)
        self.run.event("compressing", variants=[shown(chain) for chain in wanted])
        full = Variant(FULL, "full", made=Made(self.own, None, self.graph))
        variants = [full, *(self.maker.make(chain, wanted[at:]) for at, chain in enumerate(wanted))]
        measured = self._measure(variants)
        chosen = self._choose(full, [variant for variant in measured if variant is not full])
        outcome = Outcome({})
        if chosen is not None:
            chosen.state = "adopted"
            try:
                outcome = self._adopt(chosen, full, variants, side, rows, metrics)
            except AutommError as problem:
                chosen.state, chosen.reason, chosen = "failed", f"it cannot be packaged: {problem}", None
        table = self.table(variants, chosen)
        if chosen is None:  # the package tells what was tried
            write_package(self.package, replace(self.content, exporter=_Ready(self.graph), compression=table))
        return outcome._replace(table=table)

    def table(self, variants: Sequence[Variant], chosen: Variant | None) -> dict[str, Any]:
        return {
            "adopted": chosen.name if chosen else None,
            "metric": self.run.plan.metric,
            "max_loss": self.asked.max_loss,
            "rows": len(self.own.views["valid"].positions),
            "seconds": round(time.monotonic() - self.began, 1),
            "variants": [variant.json() for variant in variants],
        }

    def _measure(self, variants: Sequence[Variant]) -> list[Variant]:
        """Metric, interval, latency and size of every variant that runs."""
        full, target, common = variants[0], self.own.views["valid"].target, self.own.views["valid"].positions
        for variant in variants:
            if variant.made is not None:
                common = np.intersect1d(common, variant.made.seen.views["valid"].positions)
        paired: Paired | None = None
        for variant in variants:
            if variant.made is None or variant.made.graph is None:
                continue
            view = variant.made.seen.views["valid"]._replace(positions=common)
            try:
                variant.answers = answers_of(Session(variant.made.graph, variant.name), view)
                if variant.answers.keys() != full.answers.keys():
                    raise AutommError(f"it answers {sorted(variant.answers)}, the model {sorted(full.answers)}")
                tensors = {name: torch.from_numpy(array) for name, array in variant.answers.items()}
                found = measure(self.content.task, tensors, torch.from_numpy(target[common]))
                if found[self.run.plan.metric] is None:
                    raise AutommError(f"{self.run.plan.metric} of its answers is not defined")
                variant.value, variant.size_mb = found[self.run.plan.metric], len(variant.made.graph) / 1e6
                if paired is None:
                    metric = self.content.task.metrics()[self.run.plan.metric]
                    paired = Paired(metric, full.answers, target[common], self.run.plan.seed)
                    variant.loss = Loss(0.0, 0.0, 0.0)
                else:
                    variant.loss, variant.state = paired.loss(variant.answers), "measured"
            except (AutommError, ValueError) as problem:
                if variant is full:
                    raise
                variant.made, variant.reason = None, str(problem)
        measured = [variant for variant in variants if variant.made is not None]
        timed = speeds([
            (cast(bytes, cast(Made, v.made).graph), cast(Made, v.made).seen.views["valid"]._replace(positions=common))
            for v in measured
        ])  # fmt: skip
        for variant, speed in zip(measured, timed, strict=True):
            variant.speed, variant.speedup = speed, timed[0].one.p50 / speed.one.p50
        costs = [(cast(Loss, v.loss).value, 1 / v.speedup, v.size_mb) for v in measured]
        for variant, best in zip(measured, frontier(costs), strict=True):
            variant.best = best
        return measured

    def _choose(self, full: Variant, measured: Sequence[Variant]) -> Variant | None:
        """The fastest within the loss; of those about as fast, the smallest."""
        within = []
        for variant in measured:
            loss = cast(Loss, variant.loss)
            lost = loss.high if self.asked.sure else loss.value
            gained = variant.speedup >= FASTER or (
                variant.size_mb <= SMALLER * full.size_mb and variant.speedup >= SLOWER
            )
            if not lost <= self.asked.max_loss:
                what = "may lose up to" if self.asked.sure else "loses"
                variant.state = "over"
                variant.reason = f"{what} {lost:.2%} of {self.run.plan.metric}, allowed are {self.asked.max_loss:.2%}"
            elif not gained:
                variant.state = "no gain"
                variant.reason = (
                    f"{variant.speedup:.2f} times as fast, {variant.size_mb / full.size_mb:.2f} of the size"
                )
            else:
                variant.state = "within"
                within.append(variant)
        if not within:
            return None
        fastest = max(variant.speedup for variant in within)
        return min((v for v in within if v.speedup >= ALIKE * fastest), key=lambda v: v.size_mb)

    def _adopt(
        self, chosen: Variant, full: Variant, variants: Sequence[Variant], side: str, rows: Sequence[dict[str, Any]],
        metrics: dict[str, Any],
    ) -> Outcome:  # fmt: skip
        """Writes a package with the variant, verifies it like any other, and only then gives it the package's place."""
        made = cast(Made, chosen.made)
        changed = self._metrics(made, metrics)
        allowed = self.content.tolerance
        if made.rounded:
            far = max(float(np.quantile(np.abs(chosen.answers[n] - full.answers[n]), TYPICAL)) for n in full.answers)
            allowed = Tolerance(absolute=max(allowed.absolute, far), relative=allowed.relative)
        view = made.seen.views[side]
        content = replace(
            self.content,
            exporter=_Ready(made.graph or b""),
            metrics={part: {n: v for n, v in found.items() if v is not None} for part, found in changed.items()},
            tolerance=allowed,
            compression=self.table(variants, chosen),
        )
        if made.resolved is not None:
            train = made.seen.views["train"]
            content = replace(
                content,
                inputs=[
                    PackageInput(slug, item.info, view.processors[slug], not bool(train.stores[slug].present.all()))
                    for slug, (item, _) in made.seen.choices.items()
                ],
                resolved={**self.content.resolved, "student": made.resolved},
            )
        positions = self.own.views[side].positions[:VERIFY_ROWS]
        expected = Session(cast(bytes, made.graph), chosen.name)(arrays_of(view, positions))
        files = [status.file for status in self.run.plugins.statuses if status.file is not None]
        place = Path(tempfile.mkdtemp(prefix=".compressed.", dir=self.package.parent))
        try:
            written = write_package(place / self.package.name, content)
            report = verify_package(written, rows, content.folder, expected, allowed, files)
            put_in_place(written, self.package)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return Outcome({}, changed, report)

    def _metrics(self, made: Made, metrics: dict[str, Any]) -> dict[str, Any]:
        """The metrics of a graph; where learners were fitted again on the validation rows, those of the trials stay."""
        session = Session(cast(bytes, made.graph), "graph")
        refitted = any("learner" in member.resolved for member in self.members) and made.resolved is None
        found = dict(metrics)
        for part in metrics:
            if part == "valid" and refitted:
                continue
            view = made.seen.views[part]
            tensors = {name: torch.from_numpy(array) for name, array in answers_of(session, view).items()}
            found[part] = measure(self.content.task, tensors, torch.from_numpy(view.target[view.positions]))
        return found


class _Ready(Exporter):
    """Writes a graph that is there already."""

    makes = "graph"

    def __init__(self, data: bytes) -> None:
        super().__init__(None)
        self._data = data

    def export_graph(self, graph: Graph, path: Path) -> None:
        """Writes the file."""
        path.write_bytes(self._data)
