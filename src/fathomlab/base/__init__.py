"""What every layer may use: errors, identities, tables of parts, files, tensor axes."""
