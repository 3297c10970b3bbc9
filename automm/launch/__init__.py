"""Starting jobs of several processes: on this machine, under Slurm, on Kubernetes."""
