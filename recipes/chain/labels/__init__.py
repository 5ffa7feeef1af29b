"""Labels of synthetic images: the labelers, and how far they are trusted."""
