"""What workers are made of: local processes, threads, and whatever else speaks the protocol."""
