"""A `TrainJob` for Kubeflow Trainer 2.2 or newer."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath
from typing import Any

from automm.launch.job import Job

API = "trainer.kubeflow.org/v1alpha1"
RUNTIME = "torch-distributed"
"""The runtime that comes with Kubeflow Trainer: it gives torchrun its `PET_…` variables."""
VOLUME = "automm"
MOUNT = PurePosixPath("/automm")
"""Where the shared volume is mounted."""
MANAGER = "automm.launch/volume"
"""Names who patched the runtime."""
GPU = "nvidia.com/gpu"

# Kubeflow gives the number of nodes, of processes per node, this node's rank and the address of node 0 in PET_…, which
# torchrun reads by itself; the agents meet by c10d, so that a restart of one node restarts the processes of all.
COMMAND = """\
is_head=$([ "$PET_NODE_RANK" = 0 ] && echo 1 || echo 0)
exec torchrun --max-restarts={restarts} --rdzv-backend=c10d --rdzv-id={name} \\
  --rdzv-endpoint="$PET_MASTER_ADDR:$PET_MASTER_PORT" --rdzv-conf="is_host=$is_head" \\
  -m automm fit {recipe} --out {out} --quiet
"""


def train_job(
    job: Job, *, image: str, claim: str, namespace: str | None, runtime: str, cpus: int | None, memory: str | None
) -> dict[str, Any]:
    """The manifest of a job.

    Args:
        job: The job; recipe and run folder as paths on the volume.
        image: Image in which automm is installed.
        claim: PersistentVolumeClaim (ReadWriteMany for several nodes) with recipe and data; the run folder is written
            there.
        namespace: The namespace; None: that of `kubectl`.
        runtime: Name of a ClusterTrainingRuntime whose trainer container is called `node`.
        cpus: Cores per node; None: no request.
        memory: Memory per node (`16Gi`); None: no request.
    """
    command = COMMAND.format(
        restarts=job.restarts, name=job.name,
        recipe=shlex.quote(str(MOUNT / job.recipe.as_posix())), out=shlex.quote(str(MOUNT / job.out.as_posix())),
    )  # fmt: skip
    wanted = {"cpu": cpus and str(cpus), "memory": memory, GPU: job.gpus and str(job.gpus)}
    resources = {name: amount for name, amount in wanted.items() if amount}
    environment = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "AUTOMM_CACHE": str(MOUNT / ".cache")}
    trainer: dict[str, Any] = {
        "image": image,
        "command": ["bash", "-c", command],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "numNodes": job.nodes,
        "numProcPerNode": job.processes,
    }
    if resources:
        trainer["resourcesPerNode"] = {"requests": resources, "limits": dict(resources)}
    pod = {
        "volumes": [{"name": VOLUME, "persistentVolumeClaim": {"claimName": claim}}],
        "containers": [{"name": "node", "volumeMounts": [{"name": VOLUME, "mountPath": str(MOUNT)}]}],
    }
    patch = {"name": "node", "template": {"spec": {"template": {"spec": pod}}}}
    spec: dict[str, Any] = {
        "runtimeRef": {"apiGroup": API.partition("/")[0], "kind": "ClusterTrainingRuntime", "name": runtime},
        "trainer": trainer,
        "runtimePatches": [
            {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [patch]}}}}
        ],
    }
    if job.seconds is not None:
        spec["activeDeadlineSeconds"] = job.seconds
    metadata = {"name": job.name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": API, "kind": "TrainJob", "metadata": metadata, "spec": spec}
