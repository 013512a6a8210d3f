"""Linear latent model: mean map, basis maps (eigenvolumes), and closed-form posterior of each particle."""
