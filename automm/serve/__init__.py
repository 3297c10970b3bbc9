"""`automm serve`: packages behind HTTP. Torch-free; needs the extra `serve`."""
