"""Tokens: text → ids of a pretrained model's tokeniser. Torch-free; needs only `tokenizers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from tokenizers import Encoding, Tokenizer

from automm.api import ArraySpec, BadCell, BadCells, PluginError, Processor
from automm_text.cutting import readable

CHARS_PER_TOKEN = 20
"""Characters read for each token that is kept; natural language has 1 to 6."""

_BATCH = 512
"""Texts that the tokeniser gets at a time."""


@lru_cache(maxsize=8)
def tokenizer(text: str, length: int | None) -> Tokenizer:
    """The tokeniser of a tokenizer.json; the same one for all who ask alike, as to make one takes its time.

    Args:
        text: Content of the file.
        length: Most tokens that it gives; None: all.

    Raises:
        PluginError: If the file is damaged.
    """
    try:
        made = Tokenizer.from_str(text)
    except Exception as problem:
        raise PluginError(f"tokenizer.json cannot be read: {problem}") from problem
    made.no_padding()
    made.enable_truncation(length) if length else made.no_truncation()
    return made


class Tokens(Processor):
    """Text → `input_ids`, `attention_mask` and, where the model tells segments apart, `token_type_ids`.

    They are [time], or with `long: windows` [windows, time]: a text longer than a window goes on in the next one.

    The state carries the tokeniser itself (`tokenizer`: the text of its tokenizer.json); `fit` learns nothing.
    """

    op = "text.tokens"

    class Config(Processor.Config):
        """How the tokeniser is used."""

        max_length: Annotated[int, Field(ge=4)] = 256
        """Most tokens of a text, special ones included; with windows, of one window."""
        long: Literal["cut", "head_tail", "windows"] = "cut"
        """Longer texts: the beginning is kept, or beginning and end in equal parts, or all in several windows."""
        windows: Annotated[int, Field(ge=1)] = 1
        """Most windows of a text."""
        pad_id: Annotated[int, Field(ge=0)] = 0
        """Id that fills up shorter texts."""
        type_ids: bool = False
        """Whether the model needs segment ids other than 0."""

    def __init__(self, config: Any, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        if not isinstance(self.state.get("tokenizer"), str):
            raise PluginError("text.tokens needs the state 'tokenizer': the text of a tokenizer.json")
        self._tokenizer = tokenizer(self.state["tokenizer"], None if config.long == "head_tail" else config.max_length)
        self._room = config.max_length - self._tokenizer.num_special_tokens_to_add(is_pair=False)

    @property
    def _characters(self) -> int:
        return int(self.config.max_length * self.config.windows * CHARS_PER_TOKEN)

    def specs(self) -> dict[str, ArraySpec]:
        """The arrays it gives."""
        shape = ("windows", "time") if self.config.long == "windows" else ("time",)
        specs = {
            "input_ids": ArraySpec("int64", shape, self.config.pad_id),
            "attention_mask": ArraySpec("int64", shape),
        }
        if self.config.type_ids:
            specs["token_type_ids"] = ArraySpec("int64", shape)
        return specs

    def load(self, cell: Any) -> dict[str, np.ndarray]:
        """One text → its tokens.

        Raises:
            BadCell: If the cell is not text, or the tokeniser gives up on it.
        """
        text = self._text(cell)
        try:
            return self._arrays(self._encode([text])[0])
        except Exception as problem:
            raise BadCell(f"the tokeniser cannot read this text: {problem}") from None
        except BaseException as problem:
            if not _panic(problem):
                raise
            raise BadCell("the tokeniser gave up on this text") from None

    def items(self, cells: Sequence[Any]) -> list[dict[str, np.ndarray]]:
        """`load` for every cell, many at a time: the tokeniser uses all cores then.

        Raises:
            BadCells: For the cells that cannot be used.
        """
        rows: list[dict[str, np.ndarray]] = []
        reasons: dict[int, str] = {}
        for start in range(0, len(cells), _BATCH):
            try:
                rows += self._piece(cells[start : start + _BATCH])
            except BadCells as problem:
                reasons |= {start + at: reason for at, reason in problem.reasons.items()}
        if reasons:
            raise BadCells(reasons)
        return rows

    def _piece(self, cells: Sequence[Any]) -> list[dict[str, np.ndarray]]:
        try:
            encoded = iter(self._encode([self._text(cell) for cell in cells if cell is not None]))
        except Exception:
            return super().items(cells)  # one by one, to learn which
        except BaseException as problem:
            if not _panic(problem):
                raise
            return super().items(cells)
        return [self.blank() if cell is None else self._arrays(next(encoded)) for cell in cells]

    def _text(self, cell: Any) -> str:
        # Truncation by the tokeniser would come after reading all of the text: 44 s for 10 MB.
        return readable(cell, self._characters, end=self.config.long == "head_tail")

    def _encode(self, texts: list[str]) -> list[list[Encoding]]:
        """The windows of every text; one each unless windows are asked for."""
        if self.config.long == "head_tail":
            found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            return [[self._both_ends(text, whole)] for text, whole in zip(texts, found, strict=True)]
        found = self._tokenizer.encode_batch_fast(texts)
        return [[first, *first.overflowing[: self.config.windows - 1]] for first in found]

    def _both_ends(self, text: str, whole: Encoding) -> Encoding:
        """First and last tokens in equal parts, with the special ones."""
        if len(whole.ids) > self._room > 1:
            tail = self._tokenizer.encode(text, add_special_tokens=False)
            tail.truncate(self._room // 2, direction="left")
            whole.truncate(self._room - self._room // 2)
            whole = Encoding.merge([whole, tail], growing_offsets=False)
        return self._tokenizer.post_process(whole)

    def blank(self) -> dict[str, np.ndarray]:
        """One padding token that counts as real: attention over nothing at all would be undefined."""
        return self._filled([[self.config.pad_id]], [[0]])

    def _arrays(self, windows: list[Encoding]) -> dict[str, np.ndarray]:
        if not windows[0].ids:
            return self.blank()
        return self._filled([window.ids for window in windows], [window.type_ids for window in windows])

    def _filled(self, ids: list[list[int]], types: list[list[int]]) -> dict[str, np.ndarray]:
        """Arrays from the tokens of each window."""
        specs = self.specs()
        shape = (len(ids), max(map(len, ids)))
        arrays = {name: np.full(shape, spec.pad, spec.dtype) for name, spec in specs.items()}
        for at, (window, kinds) in enumerate(zip(ids, types, strict=True)):
            arrays["input_ids"][at, : len(window)] = window
            arrays["attention_mask"][at, : len(window)] = 1
            if "token_type_ids" in arrays:
                arrays["token_type_ids"][at, : len(window)] = kinds
        return arrays if self.config.long == "windows" else {name: array[0] for name, array in arrays.items()}


def _panic(problem: BaseException) -> bool:
    """Whether the tokeniser's Rust code gave up (a regular expression that explodes); no `Exception`, that."""
    return type(problem).__name__ == "PanicException"
