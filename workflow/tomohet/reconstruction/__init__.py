"""Maps from the images of a prepared store: half maps by backprojection, mean and particle maps by
likelihood.
"""
