"""KServe: a runtime that serves automm packages, and an inference service that uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from automm.api import Exporter, load_package
from automm_export.contents import Contents, as_yaml, write
from automm_export.image import PORT, tag, write_image
from automm_export.kubernetes import Cluster, container, metadata, pod_security

MODELS = "/mnt/models"
"""Where KServe puts what `storageUri` names."""
STORAGE = r"^(|(pvc|s3|gs|https|oci|hf|hdfs|azure)://[^\s]+)$"

README = """\
# {name} on KServe

1. Build the runtime's image; it holds automm, and no package:

   ```sh
   docker build -t {tag} image
   docker push {tag}
   ```

2. Put the folder `package/` where KServe reads it: `{storage}`.

3. Install the runtime and start the service:

   ```sh
   kubectl apply -f servingruntime.yaml -f inferenceservice.yaml
   ```

Clients talk the Open Inference Protocol, version 2 (REST), under the service's name: `/v2/models/{model}/infer`.
One runtime serves all packages that the versions in `image/requirements.txt` read; for a new package of the same kind
only `storageUri` changes.
"""


class Kserve(Exporter):
    """Writes a KServe serving runtime for automm packages and an inference service for this one."""

    class Config(Cluster):
        """Settings of the service."""

        storage: Annotated[str, Field(pattern=STORAGE)] = ""
        """Where the package lies for KServe, such as `s3://models/shop`; empty: `pvc://models/` and its name."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)

    def export_package(self, package: Path, folder: Path) -> None:
        """Writes the image, the package, `servingruntime.yaml`, `inferenceservice.yaml` and a README."""
        contents, config = Contents(package), self.config
        storage = config.storage or f"pvc://models/{contents.label}"
        contents.copy(folder / "package")
        write_image(folder / "image", contents, config.base, MODELS, inside=False)
        write(folder / "servingruntime.yaml", as_yaml(runtime(contents, config)))
        write(folder / "inferenceservice.yaml", as_yaml(service(contents, config, storage)))
        text = README.format(
            name=contents.manifest.name, model=contents.label, tag=tag(contents, config.image), storage=storage
        )
        write(folder / "README.md", text)

    def load(self, folder: Path) -> Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]:
        """Predicts with the package beside the manifests."""
        predictor = load_package(folder / "package")
        return lambda rows: predictor.predict(rows).rows


def runtime(contents: Contents, config: Cluster) -> dict[str, Any]:
    """How KServe runs packages of automm."""
    # KServe fills in the inference service's name, by which clients then ask.
    server = container(contents, config, "kserve-container", "{{.Name}}=" + MODELS)
    server["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    named = metadata(contents, config)
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {**named, "name": f"automm-{contents.label}"},
        "spec": {
            "supportedModelFormats": [{"name": "automm", "version": "1", "autoSelect": True}],
            "protocolVersions": ["v2"],
            "annotations": {
                "prometheus.kserve.io/port": str(PORT),
                "prometheus.kserve.io/path": "/metrics",
            },
            "containers": [server],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}],
        },
    }


def service(contents: Contents, config: Cluster, storage: str) -> dict[str, Any]:
    """The service itself."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata(contents, config),
        "spec": {
            "predictor": {
                "minReplicas": config.replicas,
                "maxReplicas": config.max_replicas,
                "terminationGracePeriodSeconds": 60,
                "automountServiceAccountToken": False,
                "securityContext": pod_security(),
                "scaleMetric": "concurrency",
                "scaleTarget": config.queue,
                "model": {
                    "modelFormat": {"name": "automm", "version": "1"},
                    "protocolVersion": "v2",
                    "runtime": f"automm-{contents.label}",
                    "storageUri": storage,
                },
            }
        },
    }
