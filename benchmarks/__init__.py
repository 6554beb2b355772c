"""Measurements: each script answers one question; `networks` holds the nets that are measured."""
