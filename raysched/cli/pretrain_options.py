"""`raysched pretrain`: its commands with their options. What a command needs is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

pretrain = typer.Typer(no_args_is_help=True, help="Make backbones and language adapters.", rich_markup_mode=None)


@pretrain.command()
def mini(to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to write.")]) -> None:
    """Make the mini world's backbone and language adapters again, from nothing."""
    from raysched.cli import pretraining

    pretraining.mini(to)


@pretrain.command()
def random(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to write.")],
    tokenizer: Annotated[Path, typer.Option("--tokenizer", metavar="DIR", help="Folder with tokenizer.json[.gz].")],
    languages: Annotated[str, typer.Option("--languages", help="Languages, separated by commas.")],
    layers: Annotated[int, typer.Option("--layers", min=1)] = 12,
    width: Annotated[int, typer.Option("--width", min=4, help="Hidden size; 4 attention heads.")] = 64,
    max_length: Annotated[int, typer.Option("--max-length", min=16)] = 384,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    architecture: Annotated[
        str, typer.Option("--architecture", help="xlm-roberta, bert (mBERT's) or deberta-v2 (mDeBERTa's).")
    ] = "xlm-roberta",
) -> None:
    """Make a small backbone with random weights around a real tokenizer, to try a pipeline on real text."""
    from raysched.cli import pretraining

    pretraining.random(to, tokenizer, languages, layers, width, max_length, seed, architecture)


@pretrain.command()
def language(
    backbone: Annotated[
        str, typer.Option("--backbone", metavar="NAME|DIR", help="A masked language model: hub name, folder or mini.")
    ],
    language: Annotated[str, typer.Option("--language", metavar="XX", help="The language's code.")],
    text: Annotated[
        str,
        typer.Option(
            "--text",
            metavar="FILE|NAME[:PART]",
            help="UTF-8, a sentence or paragraph per line (.gz too), or a hub name.",
        ),
    ],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The adapter is written to DIR/XX.")],
    lr: Annotated[float, typer.Option("--lr", help="AdamW's, constant.")] = 1e-4,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Blocks per step.")] = 64,
    length: Annotated[int, typer.Option("--length", help="Tokens of a block.")] = 512,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="At most so many passes over the text.")] = 100,
    hours: Annotated[float, typer.Option("--hours", min=1e-6, help="At most so long, interruptions left out.")] = 24.0,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="At most so many steps.")] = None,
    reduction: Annotated[float, typer.Option("--reduction", help="Hidden size divided by the bottleneck's.")] = 2,
    held_out: Annotated[
        float, typer.Option("--held-out", help="Text that is only scored: a share, or a number of lines.")
    ] = 0.01,
    every: Annotated[int, typer.Option("--every", min=1, help="Steps between evaluations and snapshots.")] = 500,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option("--precision", help="fp32 or bf16.")] = "fp32",
    column: Annotated[str, typer.Option("--column", help="Column of text of a data set of the hub.")] = "text",
    train_head: Annotated[
        bool, typer.Option("--train-head", help="Train the backbone's masked-language head too; it is not kept.")
    ] = False,
) -> None:
    """Train a language adapter on text. The same command continues it after any interruption."""
    from raysched.cli import pretraining
    from raysched.training.language_settings import Limits

    pretraining.language(
        to,
        Limits(epochs=epochs, hours=hours, steps=steps),
        device=device,
        backbone=backbone,
        text=text,
        language=language,
        lr=lr,
        batch_size=batch_size,
        length=length,
        reduction=reduction,
        held_out=held_out,
        every=every,
        seed=seed,
        precision=precision,
        column=column,
        train_head=train_head,
    )
