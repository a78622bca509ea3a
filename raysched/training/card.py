"""The card of an exported adapter: what it is, how it was trained, what every seed scored, how to load it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from raysched.study.model import Study
from raysched.study.values import form, metrics
from raysched.training.export import About, adapter_name

Tests = Mapping[str, Mapping[str, Mapping[str, float]]]
"""test set -> language -> scores."""
SETTINGS = {"bottleneck": ("placement", "reduction", "activation"), "lora": ("rank", "alpha")}
"""Of a task adapter, by its kind."""
MINI = "mini"


def text(about: About, seeds: Sequence[tuple[int, Tests]]) -> str:
    """Markdown with the hub's own front matter; `seeds` are the finished runs of the same cell."""
    spec, study = about.spec, about.spec.study
    full = spec.point.method == "full"
    lines = [
        *_front_matter(study, full),
        "",
        f"# {about.sweep}: {spec.point}, seed {spec.seed}",
        "",
        study.description or f"{'A model' if full else 'A task adapter'} for {study.task}.",
        "",
        f"Trained on {study.data.train} ({study.model.source_language}); selected on {study.data.dev} "
        f"({study.model.source_language}) alone: no target language was looked at before it was chosen.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in _facts(about)),
        "",
        "## Scores",
        "",
        f"Mean ± standard deviation (ddof 1) over {len(seeds)} seeds of these settings, and this adapter's own (seed "
        f"{spec.seed}). Source dev of this adapter: {_scores(about.source_dev)}.",
        "",
    ]
    for name, test_set in study.test_sets.items():
        for metric in metrics(study.task):
            lines += [f"{test_set.test}, {metric}:", "", *_table(name, test_set.languages, metric, about, seeds), ""]
    return "\n".join([*lines, "## Use", "", *_use(about), ""])


def _front_matter(study: Study, full: bool) -> list[str]:
    data = [name for name in (study.data.train, *(one.test for one in study.test_sets.values())) if _on_hub(name)]
    return [
        "---",
        "tags:",
        *([] if full else ["- adapter-transformers"]),
        "- raysched",
        *([f"base_model: {study.model.backbone}"] if _on_hub(study.model.backbone) else []),
        *(["datasets:", *(f"- {name}" for name in dict.fromkeys(data))] if data else []),
        "---",
    ]


def _on_hub(name: str) -> bool:
    """Paths of somebody's machine do not belong into a card's metadata."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _facts(about: About) -> Iterable[tuple[str, str]]:
    spec, study, resolved = about.spec, about.spec.study, about.spec.resolved
    yield "schedule", str(spec.point)
    yield "run", f"`{spec.run_id}`"
    yield "backbone", f"{study.model.backbone}, `{resolved.backbone.revision[:12]}`"
    source = study.model.source_language
    if spec.point.method == "adapters":
        revision, chosen = resolved.language_adapters[source].revision, study.model.task_adapter
        yield "language adapters", f"{study.model.language_adapters}; {source}: {_adapter(study)}, `{revision[:12]}`"
        yield (
            "task adapter",
            f"{chosen.kind}: {', '.join(f'{name} {getattr(chosen, name)}' for name in SETTINGS[chosen.kind])}",
        )
    yield (
        "training data",
        f"{study.data.train}, `{resolved.train.revision[:12]}`"
        + (f", {study.data.train_examples} rows ({study.data.subset})" if study.data.train_examples else ""),
    )
    training, point = study.training, spec.point
    own = point.epochs is not None or point.steps is not None  # an arm's length stands for the study's
    epochs, steps = (point.epochs, point.steps) if own else (training.epochs, training.steps)
    yield "length", f"{epochs} epochs" if epochs is not None else f"{steps} steps"
    yield "learning rate", f"{point.lr:g}, {training.lr_schedule}"
    yield (
        "batch, weight decay, clipping",
        f"{training.batch_size}, {training.weight_decay:g}, {training.max_grad_norm:g}",
    )
    if form(study.task) == "qa":
        for name, test_set in study.test_sets.items():
            chinese = f", Chinese by {test_set.chinese_metric}" if test_set.chinese_metric else ""
            yield f"answers of {name} ({test_set.test})", f"scored as by {test_set.scoring}{chinese}"
    for name in ("raysched", "torch", "transformers", "adapters"):
        if value := _version(about.versions, name):
            yield name, value


def _version(versions: Mapping[str, Any], name: str) -> str | None:
    """A package's version, wherever provenance keeps it."""
    if isinstance(versions.get(name), str):
        return str(versions[name])
    inner = (value for value in versions.values() if isinstance(value, Mapping))
    return next((found for value in inner if (found := _version(value, name))), None)


def _scores(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{metric} {score:.2f}" for metric, score in scores.items())


def _table(
    name: str, languages: Sequence[str], metric: str, about: About, seeds: Sequence[tuple[int, Tests]]
) -> list[str]:
    rows = ["| language | mean | std | " + " | ".join(f"seed {seed}" for seed, _ in seeds) + " | this |"]
    rows.append("|---" * (4 + len(seeds)) + "|")
    for language in languages:
        values = [tests.get(name, {}).get(language, {}).get(metric) for _, tests in seeds]
        there = [value for value in values if value is not None]
        mean = f"{fmean(there):.2f}" if there else "-"
        std = f"{stdev(there):.2f}" if len(there) > 1 else "-"
        own = about.tests.get(name, {}).get(language, {}).get(metric)
        shown = ["-" if value is None else f"{value:.2f}" for value in (*values, own)]
        rows.append(f"| {language} | {mean} | {std} | {' | '.join(shown)} |")
    return rows


def _adapter(study: Study) -> str:
    """Where the source language's adapter lies: `mini`, a folder or a name on the hub."""
    model = study.model
    where = model.language_adapter_overrides.get(model.source_language, model.language_adapters)
    return where.replace("{language}", model.source_language)


def _use(about: About) -> list[str]:
    study, name = about.spec.study, adapter_name(about.sweep)
    if about.spec.point.method == "full":
        return [
            "```python",
            "from adapters import AutoAdapterModel",
            "",
            'model = AutoAdapterModel.from_pretrained(".")',
            f'model.load_head(".", load_as="{name}", use_safetensors=True)',
            f'model.active_head = "{name}"',
            "model.eval()",
            "```",
        ]
    source, backbone, adapter = study.model.source_language, study.model.backbone, _adapter(study)
    shipped = {"adapter_path": adapter, "backbone_path": backbone}  # by raysched itself
    functions = [name for name, where in shipped.items() if where == MINI]
    loaded = "str(backbone_path())" if backbone == MINI else f'"{backbone}"'
    spoken = f'str(adapter_path("{source}"))' if adapter == MINI else f'"{adapter}"'
    return [
        "```python",
        "from adapters import AutoAdapterModel",
        "from adapters.composition import Stack",
        *([f"from raysched.mini import {', '.join(functions)}"] if functions else []),
        "",
        f"model = AutoAdapterModel.from_pretrained({loaded})",
        "# the language you want answers in",
        f'model.load_adapter({spoken}, load_as="{source}", use_safetensors=True)',
        f'model.load_adapter(".", load_as="{name}", use_safetensors=True)  # this folder',
        f'model.set_active_adapters(Stack("{source}", "{name}"))',
        f'model.active_head = "{name}"',
        "model.eval()",
        "```",
        "",
        f"`raysched evaluate .` scores it on {', '.join(test.test for test in study.test_sets.values())}.",
    ]
