"""isoform: one transformer backbone, specialised into four domains."""

__version__ = "0.1.0"
