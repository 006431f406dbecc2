"""MONGO: one class a collection, one method an operation, one conditional write a change."""
