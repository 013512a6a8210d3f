"""What JSON Schema cannot see of the network's options: some need a linear model that teaches."""


def network_mistakes(config: dict) -> list[str]:
    """One line for each contradiction between the keys of `train`, of the dataset or of a round.

    A round's own keys are held against the dataset's that it inherits.
    """
    if config.get("latents") == "linear":
        return []  # no network is trained
    of_dataset = _section(config)
    lines = _contradictions("train", of_dataset, of_dataset)
    rounds = config.get("rounds")
    for name, options in rounds.items() if isinstance(rounds, dict) else ():
        own = _section(options)
        if own:
            lines += _contradictions(f"rounds.{name}.train", own, of_dataset | own)
    return lines


def _section(options: object) -> dict:
    section = options.get("train") if isinstance(options, dict) else None
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
