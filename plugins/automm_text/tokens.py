"""Tokens: text → ids of a pretrained model's tokeniser. Torch-free; needs only `tokenizers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from tokenizers import Tokenizer

from automm.api import ArraySpec, BadCell, PluginError, Processor
from automm_text.cutting import readable

CHARS_PER_TOKEN = 20
"""Characters read for each token that is kept; natural language has 1 to 6."""


class Tokens(Processor):
    """Text → `input_ids`, `attention_mask` and, where the model tells segments apart, `token_type_ids` [time].

    The state carries the tokeniser itself (`tokenizer`: the text of its tokenizer.json); `fit` learns nothing.
    """

    op = "text.tokens"

    class Config(Processor.Config):
        """How the tokeniser is used."""

        max_length: Annotated[int, Field(ge=4)] = 256
        """Most tokens of a text, special ones included; the rest is cut off."""
        pad_id: Annotated[int, Field(ge=0)] = 0
        """Id that fills up shorter texts."""
        type_ids: bool = False
        """Whether the model needs segment ids other than 0."""

    def __init__(self, config: Any, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        try:
            self._tokenizer = Tokenizer.from_str(self.state["tokenizer"])
        except KeyError:
            raise PluginError("text.tokens needs the state 'tokenizer': the text of a tokenizer.json") from None
        except Exception as problem:
            raise PluginError(f"tokenizer.json cannot be read: {problem}") from problem
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(config.max_length)

    @property
    def limits(self) -> dict[str, float]:
        """Characters that are read; the rest of a longer text is left out."""
        return {"characters": self.config.max_length * CHARS_PER_TOKEN}

    def specs(self) -> dict[str, ArraySpec]:
        """The arrays it gives."""
        specs = {
            "input_ids": ArraySpec("int64", ("time",), self.config.pad_id),
            "attention_mask": ArraySpec("int64", ("time",)),
        }
        if self.config.type_ids:
            specs["token_type_ids"] = ArraySpec("int64", ("time",))
        return specs

    def load(self, cell: Any) -> dict[str, np.ndarray]:
        """One text → its tokens.

        Raises:
            BadCell: If the cell is not text, or the tokeniser gives up on it.
        """
        # Truncation by the tokeniser would come after reading all of the text: 44 s for 10 MB.
        text = readable(cell, self.config.max_length * CHARS_PER_TOKEN)
        try:
            found = self._tokenizer.encode(text)
        except Exception as problem:
            raise BadCell(f"the tokeniser cannot read this text: {problem}") from None
        except BaseException as problem:
            # A panic in the tokeniser's Rust code (a regular expression that explodes) is not an Exception.
            if type(problem).__name__ != "PanicException":
                raise
            raise BadCell("the tokeniser gave up on this text") from None
        if not found.ids:
            return self.blank()
        return self._arrays(found.ids, found.type_ids)

    def blank(self) -> dict[str, np.ndarray]:
        """One padding token that counts as real: attention over nothing at all would be undefined."""
        return self._arrays([self.config.pad_id], [0])

    def _arrays(self, ids: list[int], types: list[int]) -> dict[str, np.ndarray]:
        arrays = {"input_ids": np.array(ids, np.int64), "attention_mask": np.ones(len(ids), np.int64)}
        if self.config.type_ids:
            arrays["token_type_ids"] = np.array(types, np.int64)
        return arrays
