"""Runnable studies, one a file; the underscored modules hold what they share."""
