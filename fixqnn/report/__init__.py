"""What a run amounts to: facts as plain rows, shown in a terminal, as JSON, or as one HTML page."""
