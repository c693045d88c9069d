"""From rows, one a case and class, to a table of cases by classes."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float


class ValueTable:
    """The places of rows in a table of cases by classes.

    Args:
        rows: One row a case and class, with the columns case_id and class.

    Attributes:
        cases: The cases, in the order in which they come.
        classes: The classes, likewise.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        self.cases = pd.Index(rows["case_id"].unique())
        self.classes = pd.Index(rows["class"].unique())
        self._place = self.cases.get_indexer(rows["case_id"]), self.classes.get_indexer(rows["class"])

    def of(self, values: Float[np.ndarray, " rows"]) -> Float[np.ndarray, "cases classes"]:
        """Return the values of the rows as a table, NaN where there is no row.

        Example:
            >>> rows = pd.DataFrame({"case_id": ["a", "a", "b"], "class": ["organ", "lesion", "organ"]})
            >>> ValueTable(rows).of(np.array([0.9, 0.5, 0.8])).tolist()
            [[0.9, 0.5], [0.8, nan]]
        """
        table = np.full((len(self.cases), len(self.classes)), np.nan)
        table[self._place] = values
        return table

    def mask(self, chosen: Bool[np.ndarray, " rows"]) -> Bool[np.ndarray, "cases classes"]:
        """Return where the chosen rows stand."""
        table = np.zeros((len(self.cases), len(self.classes)), dtype=bool)
        table[self._place] = chosen
        return table
