"""What experiments leave behind: trial folders, records, checkpoints."""
