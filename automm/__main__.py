"""`python -m automm`, for launchers such as `torchrun -m`."""

from automm.cli.main import main

main()
