"""Drawing molecules and crystals from a trained model into a file: `isoform molecules sample`."""
