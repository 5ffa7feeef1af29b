"""How rare, how faithful and how diverse images are, against real ones."""
