"""The benchmark: starts what it needs, prints a table, writes JSON under `bench/results/`."""
