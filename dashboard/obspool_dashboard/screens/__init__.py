"""The screens: a pool, the list of pools, a question, the help."""
