"""Tables that are written."""

import pytest

from train.run.tables import write_parquet


def test_a_text_that_parquet_cannot_hold_is_named_and_nothing_is_written(tmp_path):
    pytest.importorskip("pyarrow")
    tables = ({"file": [name]} for name in ("a.wav", "\udcff.wav"))
    with pytest.raises(ValueError, match=r"t\.parquet.*'.udcff\.wav' is none: rename the file"):
        write_parquet(tmp_path / "t.parquet", tables)
    assert list(tmp_path.iterdir()) == []
