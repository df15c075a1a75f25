"""Steering a pool from another process: its methods, called over a unix socket."""
