"""Pretrained text encoders of the transformers library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from automm.api import (
    ADAPT,
    Features,
    InputInfo,
    PluginError,
    PretrainedEncoder,
    Processor,
    RecipePath,
    find_checkpoint,
    has_weights,
    nn,
    read_checkpoint_json,
    torch,
)
from automm_text.tokens import Tokens, tokenizer

if TYPE_CHECKING:
    from torch import Tensor


class HfText(PretrainedEncoder):
    """Any text encoder of transformers (BERT, RoBERTa, ModernBERT, T5, …) with its tokeniser.

    `checkpoint` names a local folder or a hub id. A folder with a config.json but no weights gives a model that starts
    from random ones.
    """

    name = "hf_text"
    modality = "text"
    preference = 2.0

    class Config(PretrainedEncoder.Config):
        """Fields of the pretrained text encoder."""

        checkpoint: Annotated[str, RecipePath()] = ""
        """A folder (relative to the recipe), or a hub id such as `sentence-transformers/all-MiniLM-L6-v2`."""
        pooling: Literal["mean", "cls", "attention", "none"] = "mean"
        """How tokens become one vector: their mean, the first one, learned attention; `none` keeps them all."""
        max_length: Annotated[int, Field(ge=4)] = 256
        """Most tokens of a text. More than the model has positions for are read with `long: windows` only."""
        long: Literal["cut", "head_tail", "windows"] = "cut"
        """Longer texts: `cut` keeps the beginning, `head_tail` beginning and end in equal parts (Sun et al. 2019),
        `windows` reads up to `max_length` tokens in pieces as long as the model takes and pools over all of them."""
        width: Annotated[int, Field(ge=1)] | None = None
        """Width of a new trained projection on top; without one the width is the model's."""
        adapt: Annotated[str, Field(pattern=ADAPT)] = "last_2"
        """What is trained: `none`, `last_N` (the last N layers), `lora` (adapters; `lora_R`: of rank R) or `full`.
        Attention pooling and the projection are new and trained in any case."""

    @classmethod
    def pretrained(cls, config: Any) -> bool:
        """True unless the checkpoint is a local folder without weights."""
        from automm_text import checkpoint

        return has_weights(find_checkpoint(config.checkpoint, checkpoint.FILES))

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Processor:
        """The checkpoint's tokeniser, cut to what the model has positions for."""
        from automm_text import checkpoint

        del info
        folder = find_checkpoint(config.checkpoint, checkpoint.FILES)
        model = read_checkpoint_json(folder / "config.json")
        state = {"tokenizer": checkpoint.tokenizer_json(folder)}
        length = min(config.max_length, checkpoint.most_tokens(model) or config.max_length)
        fields: dict[str, Any] = {"max_length": length, "pad_id": int(model.get("pad_token_id") or 0)}
        windows = -(-config.max_length // length)
        if config.long == "head_tail":
            fields["long"] = "head_tail"
        elif config.long == "windows" and windows > 1:
            fields |= {"long": "windows", "windows": windows}
        made = tokenizer(state["tokenizer"], length)
        known = model.get("vocab_size")
        if isinstance(known, int) and made.get_vocab_size() > known:
            raise PluginError(
                f"checkpoint {folder}: the tokeniser has {made.get_vocab_size():,} tokens, "
                f"the model only {known:,}; they do not belong together"
            )
        type_ids = any(made.encode("a").type_ids)
        return Tokens(Tokens.Config(**fields, type_ids=type_ids), state)

    def __init__(self, config: Any, processor: Processor) -> None:
        from automm_text import checkpoint

        super().__init__(config, processor)
        self.model = checkpoint.load_model(find_checkpoint(config.checkpoint, checkpoint.FILES))
        attention = config.pooling == "attention"
        self.add_head(self.model.config.hidden_size, attention=attention, project=config.width)

    def train(self, mode: bool = True) -> HfText:
        """As `nn.Module.train`; a frozen model stays in eval mode beside what is fresh."""
        super().train(mode)
        if self.config.adapt == "none":
            self.model.eval()
        return self

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
        rest += self.fresh()
        *middle, last = stack
        return [nn.ModuleList(first), *middle, nn.ModuleList([last, *rest])]

    def extract(self, arrays: Mapping[str, Tensor]) -> Features:
        """`input_ids`, `attention_mask` (and `token_type_ids`) to what the model makes of them.

        Args:
            arrays: [batch, time] each, or [batch, windows, time].

        Returns:
            One token per row if the pooling learns nothing, else all of them.
        """
        mask = arrays["attention_mask"].bool()
        if mask.ndim == 3:
            states, mask, first = self._windows(arrays)
        else:
            states = self.model(**arrays).last_hidden_state  # [batch, time, width]
            first = Features(states[:, :1], mask[:, :1])
        match self.config.pooling:
            case "cls":
                return Features.vector(first.mean())
            case "mean":
                return Features.vector(Features(states, mask).mean())
            case _:
                return Features(states, mask)

    def _windows(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Features]:
        """States of all windows one after the other, their mask, and the first state of each window."""
        rows, windows, time = arrays["input_ids"].shape
        flat = {name: array.reshape(rows * windows, time) for name, array in arrays.items()}
        mask = flat["attention_mask"]
        # Attention over a window of nothing but padding is undefined: its first token is attended to, and masked later.
        empty = (mask.sum(1, keepdim=True) == 0).to(mask.dtype)
        flat["attention_mask"] = torch.cat([mask[:, :1] + empty, mask[:, 1:]], 1)
        states = self.model(**flat).last_hidden_state.reshape(rows, windows, time, -1)
        real = arrays["attention_mask"].bool()
        first = Features(states[:, :, 0], real[:, :, 0])
        return states.reshape(rows, windows * time, -1), real.reshape(rows, windows * time), first
