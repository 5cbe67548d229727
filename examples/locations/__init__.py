"""A location service that stores where devices were, for nobody but itself to read."""
