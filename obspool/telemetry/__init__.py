"""What a pool tells of itself: the segment it writes, and the snapshots that readers make of it."""
