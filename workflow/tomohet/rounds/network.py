"""What JSON Schema cannot see of the options of models: some need a linear model or a parent's model."""

from tomohet.rounds.schema import keys_of

# Keys of `train` that shape the network; a network that starts from its parent's weights has the parent's.
ARCHITECTURE = (
    "zdim encoder fraction_train enc_layers_A enc_dim_A out_dim_A enc_layers_B enc_dim_B enc_mask "
    "pooling_function num_seeds num_heads layer_norm dec_layers dec_dim pe_type pe_dim feat_sigma activation"
).split()


def network_mistakes(config: dict) -> list[str]:
    """One line for each contradiction between the keys of `train`, of the dataset or of a round.

    A round's own keys are held against the dataset's that it inherits.
    """
    if config.get("latents") == "linear":
        return warm_start_mistakes(config, "linear")  # no network is trained
    of_dataset = _section(config)
    lines = _contradictions("train", of_dataset, of_dataset)
    rounds = config.get("rounds")
    for name, options in rounds.items() if isinstance(rounds, dict) else ():
        own = _section(options)
        if own:
            lines += _contradictions(f"rounds.{name}.train", own, of_dataset | own)
    return lines + warm_start_mistakes(config, "linear") + warm_start_mistakes(config, "train")


def warm_start_mistakes(config: dict, stage: str) -> list[str]:
    """One line for each round whose model cannot start from that of its parent (`init: parent`)."""
    rounds = config.get("rounds")
    rounds = rounds if isinstance(rounds, dict) else {}
    merged = {name: _section(config, stage) | _section(options, stage) for name, options in rounds.items()}
    lines = []
    for name, options in rounds.items():
        if merged[name].get("init") != "parent":
            continue
        where = f"rounds.{name}.{stage}.init"
        parent = options.get("parent") if isinstance(options, dict) else None
        if parent is None:
            lines.append(f"{where}: parent, but this round has no parent; set it in the rounds that have one")
        elif stage == "train" and parent in merged:
            lines += _other_network(where, merged[name], merged[parent], parent)
    return lines


def _other_network(where: str, own: dict, theirs: dict, parent: str) -> list[str]:
    if theirs.get("init", "linear") is None:
        return [
            f"{where}: parent, but the network of {parent} starts from nothing (init: null), and only "
            "networks that a linear model teaches are handed on"
        ]
    defaults = {key: keys_of("train")[key].get("default") for key in ARCHITECTURE}
    own, theirs = defaults | own, defaults | theirs
    other = [key for key in ARCHITECTURE if own[key] != theirs[key]]
    return [
        f"{where}: parent, but train.{key} is {own[key]} here and {theirs[key]} in {parent}; a "
        "warm start needs the same architecture"
        for key in other[:1]
    ]


def _section(options: object, stage: str = "train") -> dict:
    section = options.get(stage) if isinstance(options, dict) else None
    return section if isinstance(section, dict) else {}


def _contradictions(where: str, own: dict, complete: dict) -> list[str]:
    if complete.get("init", "linear") is not None:
        return []
    lines = []
    until, trained = complete.get("until"), complete.get("fraction_train", 1)
    if until == "converged" and trained == 1 and {"init", "until", "fraction_train"} & set(own):
        lines.append(
            f"{where}.until: converged is decided by held-out tilt images, and with init null none are "
            "held out; set fraction_train: 0.9, or init: linear"
        )
    if not {"init", "encoder", "zdim"} & set(own):
        return lines
    encoder = complete.get("encoder")
    if encoder in ("free", "backprojected"):
        lines.append(
            f"{where}.encoder: {encoder} starts from the linear model, and init is null; leave encoder out "
            "(then it is tilts, as published), or set init: linear"
        )
    if complete.get("zdim") is None:
        lines.append(
            f"{where}.zdim: found nothing, expected a whole number such as 128: with init null there is no "
            "linear model whose number of basis maps it could be"
        )
    return lines
