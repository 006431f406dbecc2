"""The embedded default: a mongod, a Redis and a secret key under DATA_DIR."""
