"""HTTP SHAPES: the models of requests and responses, and the rules of valid input."""
