"""Agents: what a model may do besides speaking."""
