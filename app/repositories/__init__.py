"""MONGO: one class per role on a collection, one method per operation, one conditional
write per change.
"""
