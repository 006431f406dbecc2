"""Carillon: a job scheduler service that keeps its promises."""
