"""API keys: who may ask."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Sequence
from pathlib import Path

from starlette.datastructures import Headers

from automm.errors import UsageError
from automm.serve.problems import Problem

VARIABLE = "AUTOMM_API_KEY"
SHORTEST = 16
OPEN = frozenset({"/v2/health/live", "/v2/health/ready"})
"""Paths that need no key: an orchestrator's probes."""


def read_keys(path: Path | None) -> tuple[str, ...]:
    """Keys from a file (one per line, # begins a comment) or, without one, from the environment.

    Raises:
        UsageError: If the file cannot be read or holds no key, or a key is short.
    """
    if path is None:
        keys = [key.strip() for key in [os.environ.get(VARIABLE, "")] if key.strip()]
    else:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as problem:
            raise UsageError(f"{path}: the API keys cannot be read: {problem}") from None
        keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not keys:
            raise UsageError(f"{path}: there is no API key in this file; write one per line")
    if any(len(key) < SHORTEST or not key.isascii() for key in keys):
        raise UsageError(
            f"an API key has at least {SHORTEST} ASCII characters; `openssl rand -hex 24` makes a good one"
        )
    return tuple(keys)


class Keys:
    """Compares what a request brings with the accepted keys.

    Args:
        keys: The accepted keys; none: everybody may ask.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def check(self, path: str, headers: Headers) -> None:
        """Lets a request pass or not.

        The key may come as `Authorization: Bearer KEY`, as `X-API-Key: KEY`, or as the password of basic authorization,
        which browsers ask for by themselves.

        Raises:
            Problem: 401, without a right key.
        """
        if not self._digests or path in OPEN:
            return
        given = _digest(_given(headers))
        # All keys are compared, in constant time each: how long it takes says nothing about them.
        if not sum(hmac.compare_digest(given, digest) for digest in self._digests):
            challenge = {"www-authenticate": 'Basic realm="automm", charset="UTF-8"'}
            raise Problem(401, "an API key is needed: send the header Authorization: Bearer KEY", challenge)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _given(headers: Headers) -> str:
    if key := headers.get("x-api-key"):
        return key.strip()
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""
