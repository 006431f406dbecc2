"""Hostile clients: attacks on a running service, whose other users must not notice them."""
