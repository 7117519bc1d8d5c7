"""Point-MAE (Pang et al. 2022) on the shared backbone: patches, the three models, official checkpoints."""
