"""How networks that compute a given table are made: one construction per file, and what they share.

`layers` holds integer networks, `sketch` realises coefficients of any size with bounded weights, `runs` says where an
activation is flat, `code` tells points apart with first-layer neurons. The others each write one kind of network.
"""
