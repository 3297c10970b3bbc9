"""Kubernetes: an autoscaled deployment of the container image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import pydantic
from pydantic import Field

from automm.api import Exporter, load_package
from automm_export.contents import Contents, as_yaml, write
from automm_export.docker import REFERENCE
from automm_export.image import LIVE, PORT, READY, USER, tag, write_image

CPU = r"^([0-9]+m|[0-9]+(\.[0-9]{1,3})?)$"
MEMORY = r"^([1-9][0-9]*(Ki|Mi|Gi|k|M|G)?)?$"
DNS = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$"
QUEUE = "automm_queue_rows"
"""The server's gauge of rows that wait."""

README = """\
# {name} on Kubernetes

```sh
docker build -t {tag} image
docker push {tag}
kubectl apply -k manifests
```

| file | what it does |
|---|---|
| `image/` | the container image, with the package inside |
| `manifests/deployment.yaml` | {replicas} or more pods: not root, read-only, no capabilities; three probes |
| `manifests/service.yaml` | one address for them: `http://{label}` in the cluster |
| `manifests/autoscaler.yaml` | up to {most} pods, so that about {queue} rows wait at each |
| `manifests/podmonitor.yaml` | has the Prometheus operator read `/metrics` of every pod |

The autoscaler needs the gauge `{metric}` as a pod metric. With the Prometheus adapter this rule offers it:

```yaml
rules:
  - seriesQuery: '{metric}{{namespace!="",pod!=""}}'
    resources: {{overrides: {{namespace: {{resource: namespace}}, pod: {{resource: pod}}}}}}
    metricsQuery: 'sum(<<.Series>>{{<<.LabelMatchers>>}}) by (<<.GroupBy>>)'
```

Without the Prometheus operator leave `podmonitor.yaml` and `autoscaler.yaml` out of `manifests/kustomization.yaml`; the
deployment then keeps the number of pods that `kubectl scale` sets. The memory limit is a guess from the package's size:
look at what a pod takes, and export again with `--set memory=…`.

A pod that is told to stop says that it is not ready, takes requests for a few more seconds until none reaches it,
answers what it has, and ends.
"""


class Cluster(Exporter.Config):
    """Settings of what runs in a cluster."""

    image: Annotated[str, Field(pattern=REFERENCE)] = ""
    """Name of the image with its registry; empty: the package's name and digest."""
    base: Annotated[str, Field(pattern=REFERENCE)] = ""
    """The image to start from, with Python; empty: the slim Python image of the package's Python version."""
    namespace: Annotated[str, Field(pattern=DNS)] = ""
    """Namespace of all objects; empty: the one that `kubectl` is set to."""
    replicas: Annotated[int, Field(ge=1, le=1000)] = 2
    """Fewest pods."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 10
    """Most pods."""
    queue: Annotated[int, Field(ge=1)] = 8
    """Rows that may wait at a pod before another is started."""
    cpu: Annotated[str, Field(pattern=CPU)] = "1"
    """Processors of a pod, such as `2` or `500m`."""
    memory: Annotated[str, Field(pattern=MEMORY)] = ""
    """Memory of a pod, such as `1Gi`; empty: 512 MiB and four times the package's size."""

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas must be at least replicas, which is {self.replicas}")
        return self


class Kubernetes(Exporter):
    """Writes the image and manifests: deployment, service, autoscaler on the queue, and monitoring."""

    class Config(Cluster):
        """Settings of the deployment."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)

    def export_package(self, package: Path, folder: Path) -> None:
        """Writes `image/`, `manifests/` and a README."""
        contents, config = Contents(package), self.config
        write_image(folder / "image", contents, config.base, "/model", inside=True)
        manifests = {
            "deployment.yaml": deployment(contents, config),
            "service.yaml": service(contents, config),
            "autoscaler.yaml": autoscaler(contents, config),
            "podmonitor.yaml": monitor(contents, config),
        }
        for name, document in manifests.items():
            write(folder / "manifests" / name, as_yaml(document))
        kustomization = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
        write(folder / "manifests" / "kustomization.yaml", as_yaml({**kustomization, "resources": list(manifests)}))
        text = README.format(
            name=contents.manifest.name, label=contents.label, tag=tag(contents, config.image), metric=QUEUE,
            replicas=config.replicas, most=config.max_replicas, queue=config.queue,
        )  # fmt: skip
        write(folder / "README.md", text)

    def load(self, folder: Path) -> Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]:
        """Predicts with the package that the image holds."""
        predictor = load_package(folder / "image" / "package")
        return lambda rows: predictor.predict(rows).rows


def metadata(contents: Contents, config: Cluster) -> dict[str, Any]:
    """Name, namespace and labels of an object."""
    found: dict[str, Any] = {"name": contents.label}
    if config.namespace:
        found["namespace"] = config.namespace
    found["labels"] = {**selector(contents), "app.kubernetes.io/version": contents.digest[:12]}
    return found


def selector(contents: Contents) -> dict[str, str]:
    """The labels by which the pods are found."""
    return {"app.kubernetes.io/name": contents.label, "app.kubernetes.io/part-of": "automm"}


def pod_security() -> dict[str, Any]:
    """Not as root, and only the usual system calls."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container(contents: Contents, config: Cluster, name: str, source: str) -> dict[str, Any]:
    """The container that serves.

    Args:
        contents: The package.
        config: The settings.
        name: What the container is called.
        source: What `automm serve` serves.
    """
    cores = float(config.cpu.removesuffix("m")) / (1000 if config.cpu.endswith("m") else 1)
    # The processors that the pod may use; the server itself sees those of the node.
    threads = str(max(1, math.ceil(cores)))
    memory = config.memory or f"{512 + int(4 * contents.megabytes)}Mi"
    return {
        "name": name,
        "image": tag(contents, config.image),
        "args": [source, "--host", "0.0.0.0", "--port", str(PORT), "--threads", threads],  # noqa: S104
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {
            "requests": {"cpu": config.cpu, "memory": memory},
            "limits": {"cpu": config.cpu, "memory": memory},
        },
        "startupProbe": {"httpGet": {"path": LIVE, "port": "http"}, "periodSeconds": 2, "failureThreshold": 60},
        "livenessProbe": {"httpGet": {"path": LIVE, "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 3},
        "readinessProbe": {"httpGet": {"path": READY, "port": "http"}, "periodSeconds": 5, "timeoutSeconds": 3},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def deployment(contents: Contents, config: Cluster) -> dict[str, Any]:
    """The pods. How many is the autoscaler's business, so `replicas` is not set."""
    server = container(contents, config, "server", "/model")
    server["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    labels = metadata(contents, config)["labels"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(contents, config),
        "spec": {
            "selector": {"matchLabels": selector(contents)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": 60,
                    "securityContext": pod_security(),
                    "containers": [server],
                    "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}],
                },
            },
        },
    }


def service(contents: Contents, config: Cluster) -> dict[str, Any]:
    """One address for all pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(contents, config),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(contents),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def autoscaler(contents: Contents, config: Cluster) -> dict[str, Any]:
    """More pods where rows wait."""
    waiting = {"metric": {"name": QUEUE}, "target": {"type": "AverageValue", "averageValue": str(config.queue)}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(contents, config),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": contents.label},
            "minReplicas": config.replicas,
            "maxReplicas": config.max_replicas,
            "metrics": [{"type": "Pods", "pods": waiting}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
        },
    }


def monitor(contents: Contents, config: Cluster) -> dict[str, Any]:
    """Has Prometheus read every pod's metrics."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata(contents, config),
        "spec": {
            "selector": {"matchLabels": selector(contents)},
            "podMetricsEndpoints": [{"port": "http", "path": "/metrics", "interval": "15s"}],
        },
    }
