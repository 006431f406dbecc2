"""A state machine that compares the engine with a model and with laws after every step."""
