from __future__ import annotations

from pathlib import Path

import pytest

from distributor.cli.sender.text_file import read_text_file


def test_a_text_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("grün\n".encode())
    assert read_text_file(str(path)) == "grün\n"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"cannot read {tmp_path / 'none'}: No such file"):
        read_text_file(str(tmp_path / "none"))


def test_an_error_does_not_hold_what_may_be_secret(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"tr0ub4dor\xff")
    with pytest.raises(ValueError, match=f"{path} is not UTF-8") as caught:
        read_text_file(str(path))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
