"""Hostile clients, tenants and receivers: attacks that the other users must not notice."""
