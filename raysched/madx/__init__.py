"""MAD-X (Pfeiffer et al. 2020): a frozen backbone, frozen language adapters, a stacked task adapter and a head.

`backbone` loads an encoder, `language_adapters` what a study names for each language, `task_adapter` makes the variants
that train and says how they are composed, `full` is the baseline that trains the backbone instead, `model` the whole.
"""

from raysched.madx.language_adapters import check_language_adapter
from raysched.madx.model import MadX
from raysched.madx.task_adapter import TASK, check_composition

__all__ = ["TASK", "MadX", "check_composition", "check_language_adapter"]
