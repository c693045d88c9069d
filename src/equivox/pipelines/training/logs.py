"""The curves of a run: JSON lines always, TensorBoard beside them."""

import json
import logging
from pathlib import Path
from typing import Any

from equivox.atomic import write_text

logger = logging.getLogger(__name__)


class RunLog:
    """Writes one JSON line a record, and the same numbers for TensorBoard.

    Args:
        folder: The fold's folder.
        steps_done: Where the run goes on: lines of later steps, which will be done again, are dropped.
        writes: False in the processes that do not write.
    """

    def __init__(self, folder: Path, *, steps_done: int, writes: bool) -> None:
        self.path = folder / "metrics.jsonl"
        self._board: Any = None
        if not writes:
            return
        folder.mkdir(parents=True, exist_ok=True)
        kept = [record for record in read_log(self.path) if record["step"] <= steps_done]
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=steps_done + 1)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Add a record.

        Args:
            step: Updates done so far.
            values: Numbers, or mappings of names to numbers; None is kept in the JSON and not drawn.
        """
        if self._board is None:
            return
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            for key, number in value.items() if isinstance(value, dict) else (("", value),):
                if isinstance(number, int | float):
                    self._board.add_scalar(f"{name}/{key}" if key else name, number, step)

    def close(self) -> None:
        """Finish the files."""
        if self._board is not None:
            self._board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the records of a `metrics.jsonl`; a last line that a killed run left unfinished is dropped."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
        else:
            logger.debug("%s: dropped an unfinished line", path)
    return records
