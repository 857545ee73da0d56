"""The command `rectiflow`: what is at a user's hand, one module a word."""
