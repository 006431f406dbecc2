"""WHAT IS STORED: frozen documents, and the values that several layers exchange."""
