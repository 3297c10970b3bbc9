"""Writing and verifying packages. Reading them is `automm.runtime`."""
