"""A whole site on one machine, for development, demo and tests; nothing in production imports it."""
