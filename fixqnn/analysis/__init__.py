"""What a network asks of its arithmetic: widths of registers, errors and where they come from."""
