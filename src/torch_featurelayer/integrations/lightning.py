"""A callback for Lightning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._optional import need
from ..address import Selector
from ._monitor import StepMonitor

if TYPE_CHECKING:
    from lightning import Callback, LightningModule, Trainer
else:
    Callback = need("lightning", "lightning").Callback

__all__ = ["LayerMonitor"]


class LayerMonitor(Callback):
    """Writes numbers of layers to the loggers of the trainer, such as TensorBoard, every n steps.

    For each layer: `mean`, `std`, `kurtosis`, `zeros` (share), `largest` (absolute value) and `nonfinite` (count) of
    its output, and `gradient_norm` of its parameters. In other steps, no hook is in the model.

    Args:
        layers: The layers of the `LightningModule`, as in `tl.capture`.
        every: The number of optimizer steps from one to the next. Default: 100.
        gradients: Whether gradient norms are included. Default: True.
        prefix: What the names begin with. Default: `"layers/"`.

    Raises:
        ValueError: If `every` is less than 1.

    Examples:
        >>> LayerMonitor(["encoder.*"], every=50).prefix
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
        super().__init__()
        self.prefix = prefix
        self._monitor = StepMonitor(layers, every, gradients, prefix)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Begins to capture."""
        self._monitor.begin(pl_module, trainer.global_step)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ARG002
        """Reads gradients."""
        self._monitor.read_gradients(pl_module)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Writes the numbers; of several batches for one optimizer step, those of the last."""
        if self._monitor.is_complete:
            metrics = self._monitor.end()
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=trainer.global_step)

    def on_exception(self, *_: Any) -> None:
        """Removes the hooks."""
        self._monitor.close()

    def on_train_end(self, *_: Any) -> None:
        """Removes the hooks."""
        self._monitor.close()
