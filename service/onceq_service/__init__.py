"""onceq service: API, workers, store, providers, simulator."""
