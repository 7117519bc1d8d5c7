"""Molecules and materials: not part of this release yet."""
