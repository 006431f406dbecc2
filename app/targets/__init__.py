"""WHERE AN ATTEMPT GOES: the targets, by type, and the rules for their connections."""
