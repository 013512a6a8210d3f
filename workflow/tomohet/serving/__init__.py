"""The report in a browser of this machine: a view of a results folder, with volumes and means on request."""
