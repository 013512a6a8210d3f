"""Write the methods paragraph of a dataset, with the file of every number."""

from tomohet.files.atomic import write_text
from tomohet.options import MethodsOptions
from tomohet.rounds.methods_text import methods_text
from tomohet.running.work import command


@command
def run(options: MethodsOptions) -> str:
    """Print the text, or write it to a file; return it."""
    text = methods_text(options.results)
    if options.output is None:
        print(text, end="")
    else:
        write_text(options.output, text)
    return text
