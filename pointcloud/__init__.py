"""Point clouds: not part of this release yet."""
