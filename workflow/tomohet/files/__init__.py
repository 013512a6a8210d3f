"""Reading and writing of files: atomic writes, MRC, STAR, safe pickles."""
