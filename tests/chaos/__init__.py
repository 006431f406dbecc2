"""Faults under load, and the checker that judges what they left."""
