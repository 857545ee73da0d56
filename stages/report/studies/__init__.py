"""Sections of the report that look into one question each."""
