"""WHAT IS STORED: the frozen shapes of the documents."""
