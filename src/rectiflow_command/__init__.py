"""The command `rectiflow`, one module for each of its words."""
