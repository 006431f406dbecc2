"""WHERE A RUN GOES: the targets that receive attempts."""
