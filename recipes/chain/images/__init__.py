"""The synthetic sets: how their images are made, judged and kept."""
