"""What a study can be asked for: its settings, sets, arms and targets."""
