"""A batch script for Slurm."""

from __future__ import annotations

import shlex

from automm.launch.job import Job

WARNING = 120
"""Seconds before the end of the job's time at which Slurm tells the script."""

SCRIPT = """\
#!/bin/bash
# {title}: sbatch {file}
# One torchrun agent per node. A killed process restarts the processes of all nodes; a job that is preempted, loses a
# node or runs out of time is queued again. In each case the run goes on where it stood.
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
{options}#SBATCH --signal=B:USR1@{warning}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={log}
set -euo pipefail
cd {folder}

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 30000))
export AUTOMM_HEAD="$head:$port" AUTOMM_JOB="$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}"
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
threads=$((${{SLURM_CPUS_ON_NODE:-1}} / {processes}))
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}}

# The node's agent. Node 0 of the job keeps the store in which the agents meet.
agent() {{
    is_head=$([ "$SLURM_NODEID" = 0 ] && echo 1 || echo 0)
    exec {python} -m torch.distributed.run \\
        --nnodes={nodes} --nproc-per-node={processes} --max-restarts={restarts} \\
        --rdzv-backend=c10d --rdzv-endpoint="$AUTOMM_HEAD" --rdzv-id="$AUTOMM_JOB" --rdzv-conf="is_host=$is_head" \\
        --local-addr="${{SLURMD_NODENAME:-$(hostname)}}" \\
        -m automm fit {recipe} --out {out} --quiet
}}
export -f agent

step=
again() {{
    trap '' USR1
    echo "preempted or out of time: queueing job $SLURM_JOB_ID again"
    if [ -n "$step" ]; then
        kill -TERM "$step" 2>/dev/null || true
    fi
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}}
trap again USR1

srun --kill-on-bad-exit=1 bash -c agent &
step=$!
wait "$step"
"""


def slurm_script(
    job: Job, *, python: str, partition: str | None, account: str | None, cpus: int | None, file: str
) -> str:
    """The script of a job; recipe and run folder must lie on a disk that all nodes see, at the same path.

    Args:
        job: The job.
        python: The Python that automm is installed in.
        partition: Slurm's partition; None: its default.
        account: The account that pays; None: the default one.
        cpus: Cores per node; None: Slurm's default.
        file: Name of the script, for its first line.
    """
    options = {
        "partition": partition, "account": account, "cpus-per-task": cpus,
        "gpus-per-node": job.gpus or None, "time": None if job.seconds is None else _time(job.seconds),
    }  # fmt: skip
    return SCRIPT.format(
        title=f"automm fit {job.recipe.name}", file=file, name=job.name, nodes=job.nodes, processes=job.processes,
        restarts=job.restarts, warning=WARNING, python=shlex.quote(python),
        options="".join(f"#SBATCH --{key}={value}\n" for key, value in options.items() if value is not None),
        log=f"{job.name}-%j.log", folder=shlex.quote(str(job.recipe.parent)), recipe=shlex.quote(job.recipe.name),
        out=shlex.quote(str(job.out)),
    )  # fmt: skip


def _time(seconds: int) -> str:
    """`days-hours:minutes:seconds`."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02}:{minute:02}:{second:02}"
