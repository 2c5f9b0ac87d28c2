"""Plain numpy versions of the operations: written to be read, not to be fast."""
