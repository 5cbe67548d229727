"""The version of this package, for whoever has to name it to others."""

VERSION = "0.1.0"
