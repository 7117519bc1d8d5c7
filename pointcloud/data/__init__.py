"""Where clouds come from and what is done to them before the tokeniser."""
