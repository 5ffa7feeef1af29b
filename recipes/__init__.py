"""Runnable studies, one a file; `chain/` holds what they share."""
