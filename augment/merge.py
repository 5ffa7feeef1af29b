"""Join a real and a synthetic table into one training table."""

from __future__ import annotations

import pandas as pd

from augment.admission import admitted

__all__ = ["merge"]


def merge(real: pd.DataFrame, synthetic: pd.DataFrame) -> pd.DataFrame:
    """Real rows of every split, then the synthetic ones that were admitted.

    Args:
        real: a table whose rows are real (also where it has no `source`); its validation and test
            rows stay as they are.
        synthetic: a table whose rows are synthetic and train; those that `admit` did not keep stay
            out.

    Returns:
        One table with the columns of both; a column that one of them lacks is empty in its rows.

    Raises:
        ValueError: a table without a column, a synthetic row outside train, a real row in
            `synthetic` or the reverse.
    """
    if "source" not in real:
        real = real.assign(source="real")
    for name in ("file_name", "split", "source"):
        for kind, table in (("real", real), ("synthetic", synthetic)):
            if name not in table:
                raise ValueError(
                    f"the {kind} table has no column {name}; give one as `load_table` and "
                    "`generate` return it"
                )
    strays = synthetic[(synthetic["split"] != "train") | (synthetic["source"] != "synthetic")]
    if len(strays):
        row = strays.iloc[0]
        raise ValueError(
            f"{len(strays)} rows of the synthetic table are not synthetic train rows, the first "
            f"{row['file_name']} ({row['source']}, {row['split']}); synthetic images only ever "
            "train; set source and split so"
        )
    if (real["source"] != "real").any():
        name = real.loc[real["source"] != "real", "file_name"].iloc[0]
        raise ValueError(
            f"the real table holds synthetic rows, the first {name}; "
            "give the real rows alone and the rest as the second table"
        )
    return pd.concat([real, admitted(synthetic)], ignore_index=True)
