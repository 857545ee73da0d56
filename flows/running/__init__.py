"""What runs stages: processes, slots, the graph."""
