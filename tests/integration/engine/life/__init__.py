"""The life of executions: a model, laws, and a machine that holds the engine against both."""
