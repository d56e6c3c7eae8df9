"""Every error this package raises, each a subclass of the built-in one would catch.

```text
FeatureLayerError
├── AddressError            ValueError      the text of an address cannot be read
├── EmptyRequestError       ValueError      no layer was asked for
├── DuplicateRequestError   ValueError      one layer was asked for twice
├── LayerNotFoundError      AttributeError  the model has no such layer
├── LayerNotRunError        RuntimeError    the layer exists, but this forward did not call it
├── CallNotMadeError        IndexError      the layer ran, but not that many times
├── AmbiguousCallError      RuntimeError    early stop on a layer that runs several times
├── OperationNotFoundError  LookupError     the layer ran, but this operation did not run in it
├── AmbiguousOperationError LookupError     the operation ran several times, and none is marked
├── StructureError          LookupError     `[index]` does not fit what the layer returned
├── EditError               ValueError      an edit does not fit the value it changes
├── FeatureNotFoundError    KeyError        these features hold no such name
├── GradientError           RuntimeError    no gradient, or none yet
├── NotAModuleError         TypeError       the model is not an `nn.Module`
├── ScriptedModuleError     TypeError       the layer is inside a TorchScript module
├── LayoutError             ValueError      which dimension holds the channels is not known
├── ReductionError          TypeError       a reduction does not fit the feature
├── UncopyableValueError    TypeError       a layer returned something that cannot be copied
├── TransformError          RuntimeError    the value ends with a `torch.func` transform
├── UnsupportedTorchError   NotImplementedError  this PyTorch lacks what a capture needs
├── CompileError            RuntimeError    `torch.compile` was used in a way that loses hooks
├── ImageError              ValueError      an image cannot be read
├── ModelNotFoundError      ValueError      no model has that name
├── WeightsNotFoundError    FileNotFoundError  weights are not here, and could not be fetched
├── WeightsMismatchError    ValueError      a state dict is not that of the model
├── LabelNotFoundError      LookupError     the model knows no class of that name
├── DatasetError            TypeError       something is not a dataset
├── EmptyDatasetError       ValueError      a dataset holds no item
├── ItemError               ValueError      an item of a dataset cannot be read
├── FeatureOverflowError    OverflowError   a feature does not fit the dtype it is stored in
├── StoreNotFoundError      FileNotFoundError  there is no store
├── StoreTargetError        FileExistsError something else is where a new store should be
├── StoreMismatchError      ValueError      a store holds other features
├── StoreLockedError        BlockingIOError another process is writing to a store
├── StoreCorruptError       ValueError      a file of a store is not what was written
└── MissingExtraError       ImportError     an optional dependency is not installed
```
"""

from __future__ import annotations

from .base import FeatureLayerError
from .capture import (
    AddressError,
    AmbiguousCallError,
    AmbiguousOperationError,
    CallNotMadeError,
    CompileError,
    DuplicateRequestError,
    EditError,
    EmptyRequestError,
    FeatureNotFoundError,
    GradientError,
    LayerNotFoundError,
    LayerNotRunError,
    LayoutError,
    NotAModuleError,
    OperationNotFoundError,
    ReductionError,
    ScriptedModuleError,
    StructureError,
    TransformError,
    UncopyableValueError,
    UnsupportedTorchError,
)
from .inputs import (
    ImageError,
    LabelNotFoundError,
    MissingExtraError,
    ModelNotFoundError,
    WeightsMismatchError,
    WeightsNotFoundError,
)
from .stores import (
    DatasetError,
    EmptyDatasetError,
    FeatureOverflowError,
    ItemError,
    StoreCorruptError,
    StoreLockedError,
    StoreMismatchError,
    StoreNotFoundError,
    StoreTargetError,
)

__all__ = [
    "AddressError",
    "AmbiguousCallError",
    "AmbiguousOperationError",
    "CallNotMadeError",
    "CompileError",
    "DatasetError",
    "DuplicateRequestError",
    "EditError",
    "EmptyDatasetError",
    "EmptyRequestError",
    "FeatureLayerError",
    "FeatureNotFoundError",
    "FeatureOverflowError",
    "GradientError",
    "ImageError",
    "ItemError",
    "LabelNotFoundError",
    "LayerNotFoundError",
    "LayerNotRunError",
    "LayoutError",
    "MissingExtraError",
    "ModelNotFoundError",
    "NotAModuleError",
    "OperationNotFoundError",
    "ReductionError",
    "ScriptedModuleError",
    "StoreCorruptError",
    "StoreLockedError",
    "StoreMismatchError",
    "StoreNotFoundError",
    "StoreTargetError",
    "StructureError",
    "TransformError",
    "UncopyableValueError",
    "UnsupportedTorchError",
    "WeightsMismatchError",
    "WeightsNotFoundError",
]
