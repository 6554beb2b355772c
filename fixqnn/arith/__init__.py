"""The meaning of every scalar step, twice: `exact` on Python integers, `fast` in compiled 64-bit integers."""
