"""What every Triton kernel of the suite needs around it, whichever package it stands in.

    target.py    which entries of a record serve the GPU at hand
    ahead.py     compiling for a GPU that isn't there, and what the result takes
    record.py    what was compiled, kept as a file beside the kernels

Attention's kernels stand in `core/attention`, those of point clouds in `pointcloud/ops`; each has a record of its own.
"""
