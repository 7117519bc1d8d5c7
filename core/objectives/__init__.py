"""Training objectives that domains share, and how a model trained by them is sampled.

flow.py      flow matching along straight lines
solvers.py   from noise to a sample
"""
