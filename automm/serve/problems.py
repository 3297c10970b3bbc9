"""What a client is told when a request is not answered: a status and one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response


class Problem(Exception):
    """Ends a request.

    Args:
        status: HTTP status.
        message: What is wrong and what to do; never a cell of the request, save in `body`, which only the client sees.
        headers: More headers of the response.
        body: More fields of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.headers, self.body = dict(headers or {}), dict(body or {})

    def response(self) -> Response:
        """`{"error": message, …}`."""
        return json_response({"error": self.message, **self.body}, self.status, self.headers)


def busy(status: int, message: str, seconds: float = 1.0) -> Problem:
    """A problem that goes away: with Retry-After."""
    return Problem(status, message, {"retry-after": str(max(1, math.ceil(seconds)))})


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response; numbers that are not finite become null."""
    data = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(data, status, dict(headers or {}), "application/json")
