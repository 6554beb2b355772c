"""Graph to graph: each file holds one rewrite."""
