"""Attacks on a running service, each an async function that is given its address."""
