"""A callback for the `Trainer` of transformers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._optional import need
from ..address import Selector
from ._monitor import StepMonitor

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback
else:
    TrainerCallback = need("transformers", "models").TrainerCallback

__all__ = ["LayerMonitor"]


class LayerMonitor(TrainerCallback):
    """Writes numbers of layers through `Trainer.log`, to TensorBoard and wherever it reports, every n steps.

    For each layer: `mean`, `std`, `kurtosis`, `zeros` (share), `largest` (absolute value) and `nonfinite` (count) of
    its output, and `gradient_norm` of its parameters. In other steps, no hook is in the model.

    Args:
        layers: The layers of the model, as in `tl.capture`.
        every: The number of optimizer steps from one to the next. Default: 100.
        gradients: Whether gradient norms are included. Default: True.
        prefix: What the names begin with. Default: `"layers/"`.

    Raises:
        ValueError: If `every` is less than 1.

    Examples:
        >>> LayerMonitor(["transformer.h.*"], every=50).prefix
        'layers/'
    """

    def __init__(
        self,
        layers: Selector | Iterable[Selector],
        every: int = 100,
        *,
        gradients: bool = True,
        prefix: str = "layers/",
    ) -> None:
        self.prefix = prefix
        self._monitor = StepMonitor(layers, every, gradients, prefix)
        self._trainer: Trainer | None = None

    def attach(self, trainer: Trainer) -> LayerMonitor:
        """Adds this callback to a trainer, which it needs to write numbers.

        Args:
            trainer: The trainer.

        Returns:
            This callback.
        """
        self._trainer = trainer
        trainer.add_callback(self)
        return self

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Checks that numbers can be written.

        Raises:
            RuntimeError: If the callback was not attached.
        """
        if self._trainer is None:
            raise RuntimeError("call LayerMonitor(...).attach(trainer) in place of callbacks=[LayerMonitor(...)]")

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Begins to capture."""
        self._monitor.begin(kwargs["model"], state.global_step)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Reads gradients."""
        self._monitor.read_gradients(kwargs["model"])

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Writes the numbers."""
        if self._monitor.is_complete and self._trainer is not None:
            self._trainer.log(self._monitor.end())

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Removes the hooks."""
        self._monitor.close()
