"""Git revisions and experiments: what they hold, how they are made and differ."""
