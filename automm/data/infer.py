"""Which columns become which inputs, and why. Knows modalities and tasks only by what they claim."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from automm.core.kinds import Modality
from automm.core.profile import Claim, ColumnProfile, InputInfo
from automm.data.profile import families
from automm.errors import DataError, RecipeError
from automm.plugin.blame import blamed
from automm.plugin.registry import Entry, Registry
from automm.recipe.model import InputSpec

REST = "*"
SURE_OF_IDS = 20
"""Rows below which "all values differ" says nothing."""
FEW = 20
_ID_NAME = re.compile(
    r"(?i)(^|.*[_\-. ])(id|ids|uid|uuid|guid|udi|key|index|idx|rowid|row|rownum|row_number)|unnamed.*|.*[a-z]I[Dd]"
)


@dataclass(frozen=True)
class Inference:
    """What the columns became.

    Attributes:
        inputs: The inputs of the model, in the order of their first column.
        reasons: Input or column → why it is what it is.
        left_out: Column → why it is not used.
    """

    inputs: tuple[InputInfo, ...]
    reasons: dict[str, str]
    left_out: dict[str, str]


@dataclass(frozen=True)
class _Offer:
    """The best claim on a column or family."""

    entry: Entry
    claim: Claim


@dataclass
class _Gathering:
    """Inputs under construction: name → modality, columns, types."""

    modalities: dict[str, Entry] = field(default_factory=dict)
    columns: dict[str, list[str]] = field(default_factory=dict)
    types: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, name: str, entry: Entry, columns: Sequence[str], kind: str | None) -> None:
        self.modalities[name] = entry
        self.columns.setdefault(name, []).extend(columns)
        if kind is not None:
            self.types.setdefault(name, {}).update(dict.fromkeys(columns, kind))


def infer_inputs(
    profiles: Mapping[str, ColumnProfile],
    registry: Registry,
    specs: Sequence[InputSpec] | None,
    ignore: Collection[str],
    target_columns: Collection[str],
    extra_ignored: Mapping[str, str] | Collection[str] = (),
) -> Inference:
    """Matches columns with modalities.

    Args:
        profiles: Column → facts.
        registry: Where the modalities are.
        specs: The recipe's `inputs`; None: all columns.
        ignore: The recipe's `ignore`.
        target_columns: Never inputs.
        extra_ignored: Columns that are no inputs unless the recipe names them (the group column), with the reason.

    Raises:
        RecipeError: If the recipe names a column, modality or type that does not exist.
        DataError: If nothing is left to learn from.
    """
    return _Inference(profiles, registry, ignore, target_columns, extra_ignored).run(specs)


class _Inference:
    def __init__(
        self,
        profiles: Mapping[str, ColumnProfile],
        registry: Registry,
        ignore: Collection[str],
        target_columns: Collection[str],
        extra_ignored: Mapping[str, str] | Collection[str],
    ) -> None:
        self.profiles, self.registry = profiles, registry
        self.modalities = registry.all("modality")
        for where, columns in (("target", target_columns), ("ignore", ignore)):
            for column in columns:
                self._known(column, where)
        self.target = set(target_columns)
        self.left_out = dict.fromkeys((c for c in profiles if c in ignore), "the recipe ignores it")
        self.extra = (
            dict(extra_ignored) if isinstance(extra_ignored, Mapping) else dict.fromkeys(extra_ignored, "not an input")
        )
        self.reasons: dict[str, str] = {}
        self.found = _Gathering()

    def run(self, specs: Sequence[InputSpec] | None) -> Inference:
        named = [spec for spec in specs or () if spec.name != REST]
        rest = [spec for spec in specs or (InputSpec(name=REST),) if spec.name == REST]
        used = {column for spec in named for column in spec.columns or (spec.name,)}
        for spec in named:
            self._explicit(spec)
        free = []
        for column in self.profiles:
            if column in used or column in self.target or column in self.left_out:
                continue
            if column in self.extra:
                self.left_out[column] = self.extra[column]
            elif not rest:
                self.left_out[column] = "the recipe's inputs do not name it"
            elif (reason := useless(self.profiles[column])) and not self._names_files(column):
                self.left_out[column] = reason
            else:
                free.append(column)
        if rest and rest[0].modality is None:
            self._infer(free)
        elif rest:
            self._all_as(free, rest[0])
        return self._result()

    def _known(self, column: str, where: str) -> ColumnProfile:
        if column not in self.profiles:
            near = difflib.get_close_matches(column, list(self.profiles), 3, 0.5)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            names = ", ".join(list(self.profiles)[:30])
            raise RecipeError(f"{where}: no column {column!r} in the data{hint} (there are: {names})")
        return self.profiles[column]

    def _explicit(self, spec: InputSpec) -> None:
        """An input that the recipe names: its word counts, whatever the cells look like."""
        columns = list(spec.columns or (spec.name,))
        for column in columns:
            self._known(column, f"inputs.{spec.name}")
            if column in self.target:
                raise RecipeError(f"input {spec.name!r}: column {column!r} is the target")
            if column in self.left_out:
                raise RecipeError(f"input {spec.name!r}: column {column!r} is also under `ignore`")
        if spec.modality is None:
            offer = self._best_family(spec.name, columns) if len(columns) > 1 else self._best(columns[0])
            if offer is None:
                raise RecipeError(
                    f"input {spec.name!r}: no modality recognises {', '.join(map(repr, columns))}; name one "
                    f"({', '.join(self.registry.names('modality'))})"
                )
            entry, kind, reason = offer.entry, offer.claim.type, offer.claim.reason
        else:
            entry, kind = self._modality(spec.modality, f"input {spec.name!r}")
            reason = "the recipe says so"
        if not _cls(entry).many_columns:
            self.found.add(spec.name, entry, columns, kind)
            self.reasons[spec.name] = reason
            return
        # One column joins the modality's common input; several under a name of their own stay together.
        shared = len(columns) == 1 and columns[0] == spec.name
        for column in columns:
            claim = self._claim(entry, column) if kind is None else None
            self.found.add(
                self._shared(entry) if shared else spec.name, entry, [column], kind or (claim.type if claim else None)
            )
            self.reasons[column] = reason

    def _infer(self, columns: list[str]) -> None:
        """Columns without a word in the recipe: families first, then one by one."""
        offers = {column: self._best(column) for column in columns}
        taken: set[str] = set()
        for prefix, members in families({column: self.profiles[column] for column in columns}).items():
            offer = self._best_family(prefix, members)
            single = [found.claim.confidence if (found := offers[column]) else 0.0 for column in members]
            if offer is not None and offer.claim.confidence >= sum(single) / len(single):
                name = self._free_name(prefix)
                self.found.add(name, offer.entry, members, offer.claim.type)
                self.reasons[name] = offer.claim.reason
                taken.update(members)
        for column in columns:
            best = offers[column]
            if column in taken:
                continue
            if best is None:
                self.left_out[column] = "no modality recognises it"
            else:
                self._add(column, best)

    def _all_as(self, columns: list[str], spec: InputSpec) -> None:
        """The remaining columns as the modality that the recipe gives for "*"; what does not fit is left out."""
        entry, kind = self._modality(str(spec.modality), f"input {REST!r}")
        for column in columns:
            claim, best = self._claim(entry, column), self._best(column)
            fits = claim is not None and (best is None or best.entry is entry or self.profiles[column].distinct <= FEW)
            if claim is not None and fits:
                self._add(column, _Offer(entry, claim._replace(type=kind or claim.type)))
                continue
            reads = f"it reads as {best.entry.name} ({best.claim.reason})" if best else "no modality recognises it"
            self.left_out[column] = f"not {spec.modality}: {reads}; name it under `inputs` to use it"

    def _add(self, column: str, offer: _Offer) -> None:
        name = self._shared(offer.entry) if _cls(offer.entry).many_columns else column
        self.found.add(name, offer.entry, [column], offer.claim.type)
        self.reasons[column] = offer.claim.reason

    def _shared(self, entry: Entry) -> str:
        """The name of the input that gathers a modality's columns: the modality's own, unless a column has it."""
        return f"{entry.name}_columns" if entry.name in self.profiles else entry.name

    def _free_name(self, prefix: str) -> str:
        return prefix if prefix not in self.profiles and prefix not in self.found.columns else f"{prefix}_series"

    def _modality(self, name: str, where: str) -> tuple[Entry, str | None]:
        """A modality by its name, or by one of its types.

        Raises:
            RecipeError: If there is none, with the nearest names.
        """
        names = self.registry.names("modality")
        if name in names or ":" in name:
            return self.registry.entry("modality", name), None
        for entry in self.modalities:
            if name in _cls(entry).types:
                return entry, name
        types = [kind for entry in self.modalities for kind in _cls(entry).types]
        near = difflib.get_close_matches(name, [*names, *types], 1, 0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise RecipeError(f"{where}: unknown modality {name!r}{hint} (there are: {', '.join([*names, *types])})")

    def _claim(self, entry: Entry, column: str) -> Claim | None:
        with blamed(self.registry, entry.cls, "claim"):
            return _cls(entry).claim(self.profiles[column])

    def _best(self, column: str) -> _Offer | None:
        return _highest([(entry, self._claim(entry, column)) for entry in self.modalities])

    def _names_files(self, column: str) -> bool:
        """Whether different cells look like files of a modality. Where none of them is found, the run must say so."""
        profile = self.profiles[column]
        if profile.distinct < 2 or sum(profile.extensions.values()) <= 0.5:
            return False
        best = self._best(column)
        return best is not None and not _cls(best.entry).many_columns

    def _best_family(self, prefix: str, columns: Sequence[str]) -> _Offer | None:
        claims = []
        for entry in self.modalities:
            with blamed(self.registry, entry.cls, "claim_family"):
                claims.append((entry, _cls(entry).claim_family(prefix, [self.profiles[column] for column in columns])))
        return _highest(claims)

    def _result(self) -> Inference:
        order = {column: at for at, column in enumerate(self.profiles)}
        inputs = [
            InputInfo(name, self._name(self.found.modalities[name]), tuple(columns), self.found.types.get(name, {}))
            for name, columns in self.found.columns.items()
        ]
        inputs.sort(key=lambda info: min(order[column] for column in info.columns))
        if not inputs:
            said = "\n".join(f"  {column}: {reason}" for column, reason in list(self.left_out.items())[:20])
            raise DataError(f"no column is left to learn from\n{said}".rstrip())
        return Inference(tuple(inputs), self.reasons, self.left_out)

    def _name(self, entry: Entry) -> str:
        return self.registry.unique_name(entry)


def _cls(entry: Entry) -> type[Modality]:
    return entry.cls  # type: ignore[return-value]


def _highest(claims: Sequence[tuple[Entry, Claim | None]]) -> _Offer | None:
    offers = [_Offer(entry, claim) for entry, claim in claims if claim is not None and claim.confidence > 0]
    return max(offers, key=lambda offer: offer.claim.confidence, default=None)


def useless(column: ColumnProfile) -> str | None:
    """Why a column that nobody named cannot help: empty, constant, or an identifier. None if it may."""
    if column.filled == 0:
        return "all cells are empty"
    if column.distinct == 1 and column.nulls == 0:
        return f"always {column.top[0][0][:40]!r}" if column.top else "always the same"
    if column.storage in ("binary", "list", "date", "boolean", "other") or column.exists_share > 0:
        return None
    unique = column.distinct >= column.filled >= SURE_OF_IDS
    nearly = column.filled >= SURE_OF_IDS and column.distinct >= 0.95 * column.filled
    named = _ID_NAME.fullmatch(column.name) is not None
    if column.number_share == 1.0 and column.integer_share == 1.0:
        span = (column.maximum or 0.0) - (column.minimum or 0.0) + 1
        if nearly and named:
            return "an identifier: whole numbers that differ in every row"
        return (
            "a row number: whole numbers that count up, all different" if unique and span <= 2 * column.filled else None
        )
    if column.number_share > 0.5 or column.date_share > 0.5 or column.list_share > 0.5 or column.mean_words >= 1.5:
        return None
    texts = [str(cell) for cell in column.sample]
    coded = bool(texts) and all(any(char.isdigit() for char in text) for text in texts)
    if nearly and (named or (coded and unique)):
        return "an identifier: a code that differs in every row"
    return None


def infer_task(columns: Sequence[ColumnProfile], registry: Registry) -> tuple[str, str]:
    """The task that claims the target most surely.

    Args:
        columns: Facts about the target columns.
        registry: Where the tasks are.

    Returns:
        Task name and reason.

    Raises:
        DataError: If no task claims it.
    """
    claims: list[tuple[Entry, Any]] = []
    for entry in registry.all("task"):
        with blamed(registry, entry.cls, "claim"):
            claims.append((entry, entry.cls.claim(columns)))  # type: ignore[attr-defined]
    best = _highest(claims)
    if best is None:
        raise DataError(_unclaimed(columns, registry))
    return registry.unique_name(best.entry), best.claim.reason


def _unclaimed(columns: Sequence[ColumnProfile], registry: Registry) -> str:
    """Why no task claims the target, as far as its cells show."""
    for column in columns:
        if column.filled == 0:
            return f"target column {column.name!r}: all {column.rows} cells are empty"
        if column.distinct == 1 and column.top:
            return f"target column {column.name!r} holds one value in all rows: {column.top[0][0][:40]!r}"
    names = ", ".join(f"{column.name!r} ({column.distinct} values in {column.filled} rows)" for column in columns)
    return f"no task fits the target {names}; name one under `task` ({', '.join(registry.names('task'))})"
