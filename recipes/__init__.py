"""Runnable studies, one per file; `chain/` holds what they share."""
