"""Interceptors around every call, one concern per file."""
