"""Stages on the nodes of a cluster."""
