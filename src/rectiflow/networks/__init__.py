"""Networks: frozen descriptions whose weights are passed in."""
