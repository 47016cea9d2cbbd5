"""Where training writes, and where the finished model and its card lie."""

from pathlib import Path

_HERE = Path(__file__).parent
OUT = _HERE.parent / "out" / "spore"
MODEL = _HERE.parent.parent / "appliance" / "mycoswarm" / "catalog" / "spore.gguf"
TOKENIZER = _HERE / "tokenizer.json"
CARD = _HERE / "CARD.md"
