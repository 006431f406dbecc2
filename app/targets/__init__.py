"""The targets that receive attempts."""
