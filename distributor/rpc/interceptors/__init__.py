"""What surrounds every call, one concern per file. Identity and authorisation will be one more of them."""
