"""Pretrained text encoders of the transformers library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from automm.api import ADAPT, Context, Encoder, Features, InputInfo, PluginError, Processor, RecipePath, nn
from automm_text.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


class HfText(Encoder):
    """Any text encoder of transformers (BERT, RoBERTa, ModernBERT, T5, …) with its tokeniser.

    `checkpoint` names a local folder or a hub id. A folder with a config.json but no weights gives a model that starts
    from random ones.
    """

    name = "hf_text"
    modality = "text"
    preference = 2.0

    class Config(Encoder.Config):
        """Fields of the pretrained text encoder."""

        checkpoint: Annotated[str, RecipePath()] = ""
        """A folder (relative to the recipe), or a hub id such as `sentence-transformers/all-MiniLM-L6-v2`."""
        pooling: Literal["mean", "cls", "attention", "none"] = "mean"
        """How tokens become one vector: their mean, the first one, learned attention; `none` keeps them all."""
        max_length: Annotated[int, Field(ge=4)] = 256
        """Most tokens of a text; longer ones are cut off."""
        adapt: Annotated[str, Field(pattern=ADAPT)] = "last_2"
        """Which parameters are trained: `none` (frozen), `last_N` (the last N layers) or `full`."""

        @model_validator(mode="after")
        def _trainable(self) -> HfText.Config:
            if self.pooling == "attention" and self.adapt == "none":
                raise ValueError("pooling 'attention' must be trained, but adapt 'none' freezes it")
            return self

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """Without a checkpoint there is nothing to load."""
        del context
        return None if config.checkpoint else "no checkpoint named"

    @classmethod
    def pretrained(cls, config: Any) -> bool:
        """True unless the checkpoint is a local folder without weights."""
        from automm_text import checkpoint

        return checkpoint.has_weights(checkpoint.locate(config.checkpoint))

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Processor:
        """The checkpoint's tokeniser, cut to what the model has positions for."""
        from tokenizers import Tokenizer

        from automm_text import checkpoint

        del info
        folder = checkpoint.locate(config.checkpoint)
        model = checkpoint.read_config(folder)
        state = {"tokenizer": checkpoint.tokenizer_json(folder)}
        length = min(config.max_length, checkpoint.most_tokens(model) or config.max_length)
        fields = {"max_length": length, "pad_id": int(model.get("pad_token_id") or 0)}
        Tokens(Tokens.Config(**fields), state)  # a damaged tokenizer.json is named here
        tokenizer = Tokenizer.from_str(state["tokenizer"])
        known = model.get("vocab_size")
        if isinstance(known, int) and tokenizer.get_vocab_size() > known:
            raise PluginError(
                f"checkpoint {folder}: the tokeniser has {tokenizer.get_vocab_size():,} tokens, "
                f"the model only {known:,}; they do not belong together"
            )
        type_ids = any(tokenizer.encode("a").type_ids)
        return Tokens(Tokens.Config(**fields, type_ids=type_ids), state)

    def __init__(self, config: Any, processor: Processor) -> None:
        from automm_text import checkpoint

        super().__init__(config, processor)
        self.model = checkpoint.load_model(checkpoint.locate(config.checkpoint))
        self.width = self.model.config.hidden_size
        if config.pooling == "attention":
            self.attention = nn.Linear(self.width, 1)

    def layers(self) -> list[Any]:
        """Embeddings, then the model's layers; the last one with everything after it."""
        stacks = [module for module in self.model.modules() if isinstance(module, nn.ModuleList)]
        stack = max(stacks, key=lambda modules: sum(p.numel() for p in modules.parameters()))
        inside = {id(p) for p in stack.parameters()}
        first, rest = [], []
        before = True
        for module in self.model.modules():
            if module is stack:
                before = False
            own = list(module.parameters(recurse=False))
            if own and not any(id(p) in inside for p in own):
                (first if before else rest).append(module)
        if self.config.pooling == "attention":
            rest.append(self.attention)
        *middle, last = stack
        return [nn.ModuleList(first), *middle, nn.ModuleList([last, *rest])]

    def forward(self, arrays: Mapping[str, Tensor]) -> Features:
        """`input_ids`, `attention_mask` (and `token_type_ids`) [batch, time] to features; time = 1 unless unpooled."""
        mask = arrays["attention_mask"].bool()  # [batch, time]
        tokens = self.model(**arrays).last_hidden_state  # [batch, time, width]
        features = Features(tokens, mask)
        match self.config.pooling:
            case "none":
                return features
            case "cls":
                return Features.vector(tokens[:, 0])
            case "attention":
                # Finite, so that a graph in half precision stays free of NaN.
                scores = self.attention(tokens)[..., 0].masked_fill(~mask, -1e4)
                return Features.vector((scores.softmax(1)[..., None] * tokens).sum(1))
            case _:
                return Features.vector(features.mean())
