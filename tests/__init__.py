"""The tests of obspool; a package, so that workers started by spawn can import what they run."""
