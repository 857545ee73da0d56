"""The sections of the report that look into one question, one module a kind; `kinds` says which there are."""
