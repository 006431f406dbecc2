"""Carillon: a job scheduler service that keeps its promises."""

__version__ = "0.1.0"
