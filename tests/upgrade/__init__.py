"""Stores of the previous version, as it left them, and what set-up and the next runs of this version do with them."""
