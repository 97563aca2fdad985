"""Reads a text file that an argument names."""

from __future__ import annotations


def read_text_file(path: str) -> str:
    """Read a file in UTF-8. Raises ValueError that names it."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        # That error holds the content, which may be secret.
        raise ValueError(f"{path} is not UTF-8") from None
