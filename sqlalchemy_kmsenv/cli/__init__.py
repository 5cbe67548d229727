"""The command line, ``kmsenv``."""
