"""Decisions and the engine: batch transport, scoring, model packages, delivery. Effects live in agents."""
