"""Benchmarks. Each starts the service, prints a table, and writes JSON under `bench/results/`."""
