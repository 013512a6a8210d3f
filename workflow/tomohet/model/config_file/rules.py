"""Rules for the content of a model's config.pkl, checked before a network of any size is built from it."""

from pathlib import Path
from typing import get_args

from tomohet.files.values import FLAG, LIST, MAPPING, TEXT, Rule, hold_to, maybe, number, one_of, whole
from tomohet.options.kinds import Encoding, Pooling

LARGEST_BOX = 2048
FREQUENCY = number(1e-6, 0.5)
PARTS = {
    "model_args": MAPPING,
    "lattice_args": MAPPING,
    "dataset_args": MAPPING,
    "training_args": MAPPING,
    "angpix": number(1e-3, 1e4),
    "scale": number(1e-30, 1e30),
    "particles": maybe(LIST),
    "store": maybe(TEXT),
}
DECODER = {
    "zdim": whole(0, 4096),
    "players": whole(0, 100),
    "pdim": whole(1, 2**16),
    "activation": one_of("relu", "leaky_relu"),
    "pe_type": one_of(*get_args(Encoding)),
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
    "pooling_function": one_of(*get_args(Pooling)),
    "num_seeds": whole(1, 1024),
    "num_heads": whole(1, 1024),
    "layer_norm": FLAG,
}
START: dict[str, Rule] = dict.fromkeys(
    ("init", "init_digest", "poses", "poses_digest", "warm_start", "warm_digest"), maybe(TEXT)
)
FIT = {"tomograms": LIST, "particles": LIST, "training_args": MAPPING, "pose_deviation": LIST}
# Keys that earlier versions and imported runs leave out.
OPTIONAL = ("encoder", "n_basis", "particles", "store", "dataset_args", "training_args")
RULES: dict[str, dict[str, Rule]] = {
    "linear": {"zdim": whole(1, 4096)},
    "nn": DECODER,
    "vae": DECODER | ENCODER,
}


def check_content(content: dict, path: str | Path) -> None:
    """Raise InputError when a value of a configuration is missing or is impossible for a model."""
    hold_to(content, PARTS, path, OPTIONAL)
    hold_to(content["lattice_args"], {"boxsize": whole(3, LARGEST_BOX + 1)}, f"{path}: lattice_args")
    where = f"{path}: model_args"
    hold_to(content["model_args"], {"kind": one_of(*RULES)}, where)
    kind = content["model_args"]["kind"]
    hold_to(content["model_args"], RULES[kind], where, OPTIONAL)
    if kind != "linear":
        use = {"max_frequency": FREQUENCY}
        hold_to(content.get("dataset_args", {}), use, f"{path}: dataset_args", use)
        hold_to(content.get("training_args", {}), START, f"{path}: training_args", START)
    elif "pose_deviation" in content:
        hold_to(content, FIT, path)
        hold_to(content["training_args"], {"max_frequency": FREQUENCY}, f"{path}: training_args")
