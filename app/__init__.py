"""Carillon: a job scheduler service."""

__version__ = "0.1.0"
