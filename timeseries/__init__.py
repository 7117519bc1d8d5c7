"""Time series: not part of this release yet."""
