"""A state machine that compares the engine with a model and checks invariants after every step."""
