"""Loading models without what transformers and PEFT print unasked: a command prints its answer, or one line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """Load, wrap or save a model with neither progress bars nor the warning that PEFT's own code sets off.

    PEFT asks every model for `is_gradient_checkpointing`, a name that transformers has deprecated. Other warnings pass.
    Downloads from the hub stay outside of this: their bars are wanted.
    """
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*deprecated", category=FutureWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
