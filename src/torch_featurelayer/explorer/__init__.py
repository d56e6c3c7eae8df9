"""A local web page that shows the features of one or two models, for an image or text and over a dataset.

`session` runs the models, `channels`, `comparison` and `tokens` compute further views; `dataset` has the items,
statistics and features that `opening` finds or computes. `routes` and `dataset_routes` answer requests, which `options`
parses, `serialization` encodes the answers, `saving`, `text_saving` and `dataset_saving` draw files. `middleware`
checks requests, `queue` runs the models in one thread, and `server` connects all. `static` is the page, which contacts
no other host.
"""

from __future__ import annotations

from .dataset import Dataset
from .opening import open_dataset
from .server import application, serve
from .session import Explorer, Picture

__all__ = ["Dataset", "Explorer", "Picture", "application", "open_dataset", "serve"]
