"""The view of a text as a figure and as the Python code that draws it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import figures
from .inputs import token_texts
from .options import Options, probe_x, selection, token_at
from .saving import load_lines
from .session import Explorer
from .tokens import attention_from, heat_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EXPRESSIONS = {
    "norm": "feat.norm(dim=-1)",
    "mean": "feat.mean(-1)",
    "channel": "feat[:, {channel}]",
    "cosine": "tl.similarity.cosine(feat, feat[[{token}]])[:, 0]",
}


def figure(explorer: Explorer, options: Options) -> Figure:
    """Draws the heat map of the stages over the tokens, or the attention of a head from each token to each.

    Raises:
        ValueError: If there is no such view.
    """
    model, picture = selection(options)
    loaded, shown = explorer.models[model], options.get("shown", "norm")
    tokens = token_texts(loaded, explorer.pictures[picture].source)
    if shown == "attention":
        weights, _ = attention_from(explorer, model, picture, options["attention"], None)
        title = f"{loaded.title} {options['attention']}: head {options['head']}"
        return figures.plot_token_map(weights[0, int(options["head"])], tokens, tokens, limits=(0, 1), title=title)
    layers, values = heat_map(explorer, model, picture, shown, int(options.get("channel", 0)), probe_x(options))
    limits, cmap = ((-1, 1), "RdBu_r") if shown == "cosine" else (None, None)
    return figures.plot_token_map(values, tokens, layers, limits=limits, cmap=cmap, title=f"{loaded.title}: {shown}")


def code(explorer: Explorer, options: Options) -> str:
    """Returns the Python code that draws the view."""
    model, picture = selection(options)
    loaded, shown = explorer.models[model], options.get("shown", "norm")
    text = explorer.pictures[picture].source
    lines = [
        "import torch",
        *load_lines(loaded),
        f"args, kwargs = loaded.inputs({text!r})",
        "tokens = loaded.tokenizer.convert_ids_to_tokens(kwargs['input_ids'][0])",
    ]
    if shown == "attention":
        address = f"{options['attention']}:attention_weights"
        lines += [
            f"weights, output = tl.FeatureLayer(loaded.model, {address!r})(*args, **kwargs)",
            f"figure = tl.figures.plot_token_map(weights[0, {options['head']}], tokens, tokens, limits=(0, 1))",
        ]
    else:
        layers, values = heat_map(explorer, model, picture, shown, int(options.get("channel", 0)), probe_x(options))
        token = token_at(values.shape[1], probe_x(options))
        value = _EXPRESSIONS[shown].format(channel=options.get("channel", 0), token=token)
        colours = ", limits=(-1, 1), cmap='RdBu_r'" if shown == "cosine" else ""
        lines += [
            f"layers = {layers!r}",
            "feats, output = tl.FeatureLayers(loaded.model, layers, detach=True)(*args, **kwargs)",
            f"values = torch.stack([{value} for feat in (each.reshape(len(tokens), -1) for each in feats)])",
            f"figure = tl.figures.plot_token_map(values, tokens, layers{colours})",
        ]
    return "\n".join([*lines, "figure.savefig('tokens.png', dpi=150, bbox_inches='tight')"]) + "\n"
