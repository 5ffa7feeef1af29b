"""What a study tells: comparisons, audit, cards, curves and the report."""
