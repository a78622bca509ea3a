"""Tiny rows of choice and nli, and every text of theirs."""

from __future__ import annotations

CHOICE = [
    {"id": "0", "premise": "Ada fell.", "choices": ["It was icy.", "She got up."], "question": "cause", "label": 0},
    {"id": "1", "premise": "Rain.", "choices": ["Dry", "The street was wet."], "question": "effect", "label": 1},
]
NLI = [
    {"id": "0", "premise": "Ada fell on ice.", "hypothesis": "Ada fell.", "label": 0},
    {"id": "1", "premise": "Rain", "hypothesis": "The street was dry.", "label": 2},
    {"id": "2", "premise": "Rain", "hypothesis": "", "label": 1},
]
TEXTS = ["What was the cause effect ?", *(text for row in CHOICE for text in (row["premise"], *row["choices"]))]
TEXTS += [row[name] for row in NLI for name in ("premise", "hypothesis")]
