"""What llama.cpp says, line by line: kept for errors, passed on to Python's logging."""

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

KEPT_LINES = 200  # for an error's last words: a load of 80 layers says about 150 lines that matter
LAST_WORDS = 8
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}  # ggml_log_level
_CONTINUED = 5  # GGML_LOG_LEVEL_CONT: goes on with the line before


class Log:
    """Takes llama.cpp's log callback; `take` has its arguments."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, str]] = deque(maxlen=KEPT_LINES)
        self._listeners: list[Callable[[str], None]] = []
        self._open = ""
        self._level = logging.INFO
        self.callback: object = None  # kept alive as long as llama.cpp may call it

    def last_words(self) -> tuple[str, ...]:
        """The last warnings and errors, or, where there are none, the last lines."""
        grave = [line for level, line in self._kept if level >= logging.WARNING]
        return tuple((grave or [line for _, line in self._kept])[-LAST_WORDS:])

    @contextlib.contextmanager
    def heard(self) -> Iterator[list[str]]:
        """All lines said while it is open, oldest first. What was said before no longer counts as last words."""
        lines: list[str] = []
        self._kept.clear()
        self._listeners.append(lines.append)
        try:
            yield lines
        finally:
            self._listeners.remove(lines.append)

    def take(self, level: int, text: bytes) -> None:
        """One utterance, a whole line or a part of one."""
        if level != _CONTINUED:
            self._flush()
            self._level = _LEVELS.get(level, logging.INFO)
        self._open += text.decode("utf-8", "replace")
        if self._open.endswith("\n"):
            self._flush()

    def _flush(self) -> None:
        line, self._open = self._open.strip(), ""
        if line.strip("."):  # progress dots are no words
            self._kept.append((self._level, line))
            for listen in self._listeners:
                listen(line)
            logger.log(self._level, "%s", line)
