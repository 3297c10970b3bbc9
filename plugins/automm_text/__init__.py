"""Built-in components for text."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import hookimpl


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the modality, its processors and its encoders."""
    from automm_text.hf_text import HfText
    from automm_text.modality import Text
    from automm_text.ngram import NgramText
    from automm_text.ngrams import Ngrams
    from automm_text.tfidf import Tfidf
    from automm_text.tfidf_svd import TfidfSvd
    from automm_text.tokens import Tokens

    for component in (Text, Ngrams, NgramText, Tfidf, TfidfSvd, Tokens, HfText):
        register(component)
