"""The version of this release, where the package, its wheel and every run read it."""

__version__ = "0.1.0"
