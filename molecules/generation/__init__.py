"""How good generated molecules and crystals are, by the field's own libraries, each figure with its denominators."""
