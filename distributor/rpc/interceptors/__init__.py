"""Interceptors around every call, one concern per file. Authentication and authorisation will be added here."""
