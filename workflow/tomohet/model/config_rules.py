"""Rules for the content of a model's config.pkl, checked before a network of any size is built from it."""

from pathlib import Path

from tomohet.errors import InputError
from tomohet.files.values import FLAG, LIST, MAPPING, Rule, hold_to, maybe, number, one_of, whole
from tomohet.model.pooling import POOLINGS
from tomohet.model.positional import ENCODINGS

LARGEST_BOX = 2048
PARTS = {
    "model_args": MAPPING,
    "lattice_args": MAPPING,
    "angpix": number(1e-3, 1e4),
    "scale": number(1e-30, 1e30),
    "particles": maybe(LIST),
}
DECODER = {
    "zdim": whole(0, 4096),
    "players": whole(0, 100),
    "pdim": whole(1, 2**16),
    "activation": one_of("relu", "leaky_relu"),
    "pe_type": one_of(*ENCODINGS),
    "pe_dim": maybe(whole(1, LARGEST_BOX)),
    "feat_sigma": number(0, 1e6),
    "l_extent": number(1e-6, 1e6),
    "hermitian": FLAG,
    "n_basis": whole(0, 4096),
}
ENCODER = {
    "encoder": one_of("tilts", "backprojected", "free"),
    "qlayersA": whole(0, 100),
    "qdimA": whole(1, 2**16),
    "out_dimA": whole(1, 2**16),
    "ntilts": whole(1, 10**5),
    "qlayersB": whole(0, 100),
    "qdimB": whole(1, 2**16),
    "enc_mask": maybe(whole(-1, 2 * LARGEST_BOX)),
    "pooling_function": one_of(*POOLINGS),
    "num_seeds": whole(1, 1024),
    "num_heads": whole(1, 1024),
    "layer_norm": FLAG,
}
# Keys that earlier versions and imported runs leave out.
OPTIONAL = ("encoder", "n_basis", "particles")
RULES: dict[str, dict[str, Rule]] = {
    "linear": {"zdim": whole(1, 4096)},
    "nn": DECODER,
    "vae": DECODER | ENCODER,
}


def check_config(config: dict, path: str | Path) -> None:
    """Raise InputError when a value of a configuration is missing or is impossible for a model."""
    hold_to(config, PARTS, path, OPTIONAL)
    hold_to(config["lattice_args"], {"boxsize": whole(3, LARGEST_BOX + 1)}, f"{path}: lattice_args")
    where = f"{path}: model_args"
    hold_to(config["model_args"], {"kind": one_of(*RULES)}, where)
    hold_to(config["model_args"], RULES[config["model_args"]["kind"]], where, OPTIONAL)


def refuse_larger_than(weights: Path, config: dict, path: str | Path) -> None:
    """Raise InputError when a configuration's model has more parameters than its weights file can hold.

    Only the largest matrices are counted, so that no model is refused that would fit.
    """
    args, box = config["model_args"], config["lattice_args"]["boxsize"] - 1
    basis = args["zdim"] if args["kind"] == "linear" else args.get("n_basis", 0)
    least = basis * box**3
    if args["kind"] != "linear":
        least += args["players"] * args["pdim"] ** 2 + args["pdim"] * args["zdim"]
    if args["kind"] == "vae" and args.get("encoder", "tilts") == "tilts":
        least += max(args["qlayersA"] - 1, 0) * args["qdimA"] ** 2 + args["qdimA"] * args["out_dimA"]
    if args["kind"] == "vae" and args.get("encoder", "tilts") != "free":
        least += max(args["qlayersB"] - 1, 0) * args["qdimB"] ** 2
    size = weights.stat().st_size
    if 2 * least > size + 10**6:  # 16-bit numbers would still be read
        raise InputError(
            f"{path}: describes a model of {least:,} parameters or more, but {weights} has {size:,} bytes; "
            "the two files do not belong together"
        )
