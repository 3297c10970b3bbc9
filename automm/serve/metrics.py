"""Prometheus metrics, in base units. Right with several workers too: then they meet in files of a common folder.

The folder is named by PROMETHEUS_MULTIPROC_DIR, which must be set before this module is imported.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_BYTES = (256, 1024, 4096, 2**14, 2**16, 2**18, 2**20, 2**22, 2**24, 2**26)


class Metrics:
    """All metrics of a worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        if FOLDER not in os.environ:
            ProcessCollector(registry=self.registry)
        model = ["model", "version"]
        self.requests = self._counter("requests", "Requests answered, by status.", ["endpoint", "model", "code"])
        self.seconds = self._histogram(
            "request_duration_seconds", "From the head of a request to the end of its answer.", ["endpoint"], _SECONDS
        )
        self.body = self._histogram("request_body_bytes", "Size of bodies.", ["endpoint"], _BYTES)
        self.active = self._gauge("active_requests", "Requests being answered.", [])
        self.rows = self._counter("rows", "Rows, by outcome: predicted or refused.", [*model, "outcome"])
        self.queue = self._gauge("queue_rows", "Rows that wait for the model.", model)
        self.waited = self._histogram("queue_wait_seconds", "Time in the queue.", model, _SECONDS)
        self.batches = self._histogram("batch_rows", "Rows of a run of the model.", model, _ROWS)
        self.runs = self._histogram("batch_duration_seconds", "Time of a run of the model.", model, _SECONDS)
        self.ready = self._gauge("model_ready", "Workers that serve this version.", [*model, "digest"])
        self.loads = self._counter(
            "model_loads", "Packages loaded, by outcome: loaded or failed.", ["model", "outcome"]
        )
        self.captured = self._counter("captured_rows", "Rows captured, by outcome: written or left.", ["outcome"])

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return Counter(f"automm_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str]) -> Gauge:
        return Gauge(f"automm_{name}", text, labels, registry=self.registry, multiprocess_mode="livesum")

    def _histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        return Histogram(f"automm_{name}", text, labels, registry=self.registry, buckets=buckets)

    def text(self) -> bytes:
        """What Prometheus reads: this worker's metrics, or those of all workers."""
        if FOLDER not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


class ModelMetrics:
    """What the batcher of one version reports.

    Args:
        metrics: All metrics.
        model: Model name.
        version: Its version.
    """

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self._queue = metrics.queue.labels(model, version)
        self._waited = metrics.waited.labels(model, version)
        self._batches = metrics.batches.labels(model, version)
        self._runs = metrics.runs.labels(model, version)
        self._predicted = metrics.rows.labels(model, version, "predicted")
        self._refused = metrics.rows.labels(model, version, "refused")

    def waiting(self, rows: int) -> None:
        """Rows in the queue have changed to this."""
        self._queue.set(rows)

    def batch(self, rows: int, seconds: float, queued: Sequence[float]) -> None:
        """A run of `rows` took `seconds`; the requests in it had waited `queued` seconds."""
        self._batches.observe(rows)
        self._runs.observe(seconds)
        for waited in queued:
            self._waited.observe(waited)

    def answered(self, predicted: int, refused: int) -> None:
        """A request's rows, by outcome."""
        if predicted:
            self._predicted.inc(predicted)
        if refused:
            self._refused.inc(refused)
