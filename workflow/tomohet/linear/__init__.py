"""The linear latent model: a mean map, a few basis maps and every particle's posterior, in closed form."""
