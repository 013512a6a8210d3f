"""Names in config.pkl of the fields of a network's shape, in the order in which they are written."""

from tomohet.model.settings import DecoderShape, EncoderShape, Network

# The side of the published lattice: the mirrored Nyquist line counts as well.
MIRRORED = 1

ENCODER = {
    "source": "encoder",
    "layers_a": "qlayersA",
    "width_a": "qdimA",
    "out_a": "out_dimA",
    "longest": "ntilts",
    "layers_b": "qlayersB",
    "width_b": "qdimB",
    "mask_px": "enc_mask",
    "pooling": "pooling_function",
    "seeds": "num_seeds",
    "heads": "num_heads",
    "layer_norm": "layer_norm",
}
DECODER = {
    "n_basis": "n_basis",
    "zdim": "zdim",
    "layers": "players",
    "width": "pdim",
    "activation": "activation",
    "encoding": "pe_type",
    "per_axis": "pe_dim",
    "feat_sigma": "feat_sigma",
    "extent": "l_extent",
    "hermitian": "hermitian",
}


def network_entries(network: Network) -> dict:
    """Return the section `model_args` of a network of train_vae or train_nn."""
    decoder = {word: getattr(network.decoder, field) for field, word in DECODER.items()}
    if network.encoder is None:
        del decoder["n_basis"]
        return {"kind": "nn"} | decoder
    encoder = {word: getattr(network.encoder, field) for field, word in ENCODER.items()}
    return {"kind": "vae"} | encoder | decoder


def network_of(entries: dict) -> Network:
    """Return the network of a section `model_args` that fulfils `rules`."""
    decoder = DecoderShape(**{field: entries[word] for field, word in DECODER.items() if word in entries})
    if entries["kind"] == "nn":
        return Network(decoder)
    encoder = EncoderShape(**{field: entries[word] for field, word in ENCODER.items() if word in entries})
    return Network(decoder, encoder)
