"""Loading and saving models without the progress bars and warnings that transformers and PEFT print unasked."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def without_library_output() -> Iterator[None]:
    """Load, wrap or save a model without progress bars and without one warning that PEFT's own code sets off.

    PEFT asks every model for `is_gradient_checkpointing`, which transformers has deprecated; other warnings pass.
    Downloads from the hub stay outside of this context, so that their progress shows.
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
