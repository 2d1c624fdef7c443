"""The instrument: one comparison of alignment methods, from split to table."""

__version__ = "0.1.0"
