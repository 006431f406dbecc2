"""USE CASES: what HTTP, the command line and the engine share."""
