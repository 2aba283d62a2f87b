"""The operations console for an anycast DNS cloud."""

__version__ = "0.1.0"
