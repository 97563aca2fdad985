"""Composition roots: arguments to settings to objects to run."""
