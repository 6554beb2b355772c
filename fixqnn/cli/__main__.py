"""``python -m fixqnn.cli``: the command line."""

from fixqnn.cli import main

main()
