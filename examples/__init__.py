"""Example programs; they are not part of the installed package."""
