"""WHAT THEN: pure decisions on what to do with a slot, an outcome or an old execution."""
