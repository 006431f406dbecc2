"""HTTP SHAPES: what requests and answers look like."""
