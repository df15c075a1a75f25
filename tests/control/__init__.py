"""Tests of obspool.control: real sockets, real processes."""
