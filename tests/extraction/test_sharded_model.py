"""Extraction with torchrun where each rank holds a part of the weights: the features of one process, in one store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.extraction.test_backends import ended, started
from tests.versions import shards

pytestmark = [pytest.mark.slow, shards]

ROUNDING = 1e-6


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The results of two ranks, which take a quarter of a minute."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    _, err, code = ended(started(*torchrun, str(Path(__file__).with_name("sharded.py")), str(folder)))
    assert code == 0, err
    return json.loads(Path(folder, "found.json").read_text())


def test_features_are_those_of_one_process(found: Any) -> None:
    assert found["whole_features"] == pytest.approx({"fsdp": 0, "tensor parallel": 0}, abs=ROUNDING)


def test_dtensors_are_gathered(found: Any) -> None:
    assert found["gathered_features"] == pytest.approx({"0": 0, "1": 0, "2": 0}, abs=ROUNDING)


def test_a_part_of_a_feature_is_an_error(found: Any) -> None:
    assert found["parts_of_features"].startswith("'0' is another tensor on each rank, a part of the feature ([2, 8]")


def test_different_items_are_an_error(found: Any) -> None:
    """The sums of tensor parallelism would be of two items; without it, each rank would write shards of other items."""
    for each in found["different_items"]:
        assert each.startswith("the ranks of torchrun have different data")


def test_a_store_is_continued_with_another_sharding(found: Any) -> None:
    """The identity is that of the model itself; finished shards are not written again."""
    right = {"kept": True, "whole": True, "error": pytest.approx(0, abs=ROUNDING)}
    assert found["other_sharding"] == {"fsdp": right, "plain": right}


def test_changed_items_are_extracted_again(found: Any) -> None:
    assert found["changed_item"] < ROUNDING


def test_options_that_need_a_copy_of_the_model(found: Any) -> None:
    *copies, actors = found["options"]
    assert all(each.startswith("a model whose weights are sharded over processes cannot be copied") for each in copies)
    assert actors.startswith("the weights of the model are sharded over processes of torchrun")


def test_diagnosis_gathers(found: Any) -> None:
    assert found["comparisons"] == pytest.approx({"diff": 0, "statistics": 0}, abs=ROUNDING)


def test_transformers(found: Any) -> None:
    assert found["language_model"] == pytest.approx({"largest": 0}, abs=1e-5)
