"""Models: what was trained."""
