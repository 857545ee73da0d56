"""What a page is like in a browser: its style and its scripts, one text a module. Nothing is loaded from elsewhere."""
