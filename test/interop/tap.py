"""Tells the outcome of each check in one line, `ok NAME - figures` or `not ok NAME - why`, also to $INTEROP_REPORT."""
import contextlib
import os
import subprocess
import traceback


@contextlib.contextmanager
def check(name):
    """Gives a list for the figures; whatever is raised inside makes the check fail and the next one begin."""
    figures = []
    try:
        yield figures
        tell(f'ok {name} - {", ".join(figures)}')
    except Exception as error:
        traceback.print_exc()
        tell(f'not ok {name} - {type(error).__name__}: {" ".join(str(error).split())[:300]}')


def tell(line):
    print(line, flush=True)
    if report := os.environ.get('INTEROP_REPORT'):
        with open(report, 'a') as file:
            print(line, file=file)


def node(script, *arguments):
    """Runs one of the TypeScript halves."""
    subprocess.run(['node', '--import', 'tsx', f'test/interop/{script}', *map(str, arguments)], check=True)


def require(holds, *why):
    """Like assert, but with Python's -O too."""
    if not holds:
        raise AssertionError(' '.join(map(str, why)))
