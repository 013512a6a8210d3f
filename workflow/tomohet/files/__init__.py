"""Reading and writing files: atomic writes, MRC, STAR, safe pickles."""
