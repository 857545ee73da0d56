"""Optimal transport between two samples."""
