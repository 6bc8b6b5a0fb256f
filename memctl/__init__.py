"""Keeps the memory of a fleet of AI agents healthy on one SQLite file."""

__version__ = "0.1.0"
