"""Many points on exact integers: grids, sweeps that stop and resume, searches; rows one can decide from."""
