"""The heterogeneity network: encoder, half-space decoder, loss, and the volumes that the decoder makes."""
