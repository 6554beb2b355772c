"""Doors for models made elsewhere: each file reads one dialect and returns a Graph."""
