"""Part segmentation: clouds whose class is given beside them, a part of it for every point."""
