"""Analysis of the latents and volumes of a trained model: states, leaks, convergence, traversals."""
