"""The `farshore` command: arguments in, one clear line out."""
