"""Molecules and crystals as atoms in space: one representation (system.py), its files, splits and augmentations."""
