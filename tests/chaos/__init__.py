"""Faults under load, and the checker that examines the result."""
