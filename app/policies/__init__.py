"""WHAT THEN: pure decisions on what to do with a slot or an outcome."""
