"""What the commands need around their work: logs, folders of their own, several processes."""
