"""The callbacks write the numbers that a computation by hand gives, and leave no hook behind."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import transformers
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from torch_featurelayer.integrations._monitor import _summarize
from torch_featurelayer.integrations.lightning import LayerMonitor as LightningMonitor
from torch_featurelayer.integrations.transformers import LayerMonitor as TrainerMonitor

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


class Regression(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        self.norms: list[float] = []
        self.outputs: list[Tensor] = []

    def training_step(self, batch: Any, _: int) -> Tensor:
        self.outputs.append(self.net[:2](batch[0]).detach())
        return self.net(batch[0]).square().mean()  # type: ignore[no-any-return]

    def on_before_optimizer_step(self, _: Any) -> None:
        grads = [each.grad for each in self.net[0].parameters()]
        self.norms.append(float(torch.cat([each.flatten() for each in grads if each is not None]).norm()))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning(accumulate: int, tmp_path: Path) -> None:
    model = Regression()
    monitor = LightningMonitor(["net.0", "net.1"], every=3)
    trainer = lightning.Trainer(
        max_epochs=1, logger=CSVLogger(tmp_path, flush_logs_every_n_steps=1), callbacks=[monitor],
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        accumulate_grad_batches=accumulate, log_every_n_steps=1000,
    )  # fmt: skip
    trainer.fit(model, DataLoader(TensorDataset(X), batch_size=8))
    (file,) = tmp_path.rglob("metrics.csv")
    rows = [row for row in csv.DictReader(file.open()) if row.get("layers/net.1/mean")]
    captured = range(0, 8 // accumulate, 3)
    assert len(rows) == len(captured)
    for row, step in zip(rows, captured, strict=True):
        output = model.outputs[(step + 1) * accumulate - 1].double()
        assert float(row["layers/net.1/mean"]) == pytest.approx(float(output.mean()), rel=1e-5)
        assert float(row["layers/net.1/std"]) == pytest.approx(float(output.std(correction=0)), rel=1e-5)
        assert float(row["layers/net.1/zeros"]) == pytest.approx(float((output == 0).double().mean()))
        assert float(row["layers/net.1/largest"]) == pytest.approx(float(output.max()), rel=1e-5)
        assert float(row["layers/net.1/nonfinite"]) == 0
        assert float(row["layers/net.0/gradient_norm"]) == pytest.approx(model.norms[step], rel=1e-5)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12, 1e150])
def test_numbers_of_any_magnitude(scale: float) -> None:
    """Of float64 too, and of complex numbers; fourth powers would leave the range."""
    values = torch.randn(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean, std, kurtosis, zeros, largest, nonfinite = _summarize(
        torch.cat([values, torch.tensor([torch.nan, torch.inf])]) * scale
    ).tolist()
    right = (values - values.mean()).pow(4).mean() / values.var(correction=0) ** 2
    assert [mean, std] == pytest.approx([float(values.mean()) * scale, float(values.std(correction=0)) * scale])
    assert (kurtosis, largest) == pytest.approx((float(right), float(values.abs().max()) * scale))
    assert (zeros, nonfinite) == (0, 2)
    if scale <= 1e12:
        single = _summarize((values * scale).float())
        assert single.tolist()[:3] == pytest.approx([mean, std, kurtosis], rel=1e-4)
    parts = _summarize(torch.complex(values[:25] * scale, values[25:] * scale))
    assert parts.tolist()[:3] == pytest.approx([mean, std, kurtosis])


def test_an_output_without_values() -> None:
    """Such as that of an expert which gets no tokens."""
    assert _summarize(torch.empty(0, 8))[[0, 1, 3, 4, 5]].tolist() == [0.0] * 5
    assert _summarize(torch.zeros(3))[[0, 1, 3, 4, 5]].tolist() == [0, 0, 1, 0, 0]


def test_an_exception_removes_the_hooks(tmp_path: Path) -> None:
    class Failing(Regression):
        def training_step(self, batch: Any, number: int) -> Tensor:
            if number == 2:
                raise KeyError("stop")
            return super().training_step(batch, number)

    model = Failing()
    trainer = lightning.Trainer(
        max_epochs=1, logger=CSVLogger(tmp_path), callbacks=[LightningMonitor("net.1", every=1)], accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    with pytest.raises(KeyError):
        trainer.fit(model, DataLoader(TensorDataset(X), batch_size=8))
    assert not any(module._forward_hooks for module in model.modules())


def trained(tmp_path: Path, callbacks: Any = None) -> tuple[transformers.Trainer, transformers.GPT2LMHeadModel]:
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=16)
    model = transformers.GPT2LMHeadModel(config)
    ids = torch.randint(0, 50, (32, 8), generator=torch.Generator().manual_seed(0))
    data = [{"input_ids": row, "labels": row} for row in ids]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=4, max_steps=6, report_to=[], use_cpu=True,
        save_strategy="no", logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    return transformers.Trainer(model, arguments, train_dataset=data, callbacks=callbacks), model  # type: ignore[arg-type]


def test_trainer(tmp_path: Path) -> None:
    trainer, model = trained(tmp_path)
    TrainerMonitor(["transformer.h.*"], every=2).attach(trainer)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "layers/transformer.h.0/std" in entry]
    assert [entry["step"] for entry in logs] == [1, 3, 5]
    for entry in logs:
        assert entry["layers/transformer.h.1/gradient_norm"] > 0
        assert entry["layers/transformer.h.1/kurtosis"] > 1
    assert not any(module._forward_hooks for module in model.modules())


def test_a_callback_that_is_not_attached(tmp_path: Path) -> None:
    trainer, _ = trained(tmp_path, [TrainerMonitor("transformer.h.0")])
    with pytest.raises(RuntimeError, match=r"attach\(trainer\)"):
        trainer.train()
    with pytest.raises(ValueError, match="every must be at least 1"):
        TrainerMonitor("transformer.h.0", every=0)
    with warnings.catch_warnings():
        assert LightningMonitor("net.1").prefix == "layers/"
