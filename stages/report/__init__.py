"""The report: one page, its figures, and the numbers behind it."""
