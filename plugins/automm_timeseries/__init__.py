"""Built-in components: timeseries."""
