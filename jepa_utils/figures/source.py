"""Show the package's own code in a page, so that text and code cannot part."""

from __future__ import annotations

import ast
import inspect
import textwrap


def show_source(obj: object) -> None:
    """Show the code of a function or class, comments kept, without its docstring.

    The output says where the code lies, so that a page that shows old code is found to be stale.

    Parameters
    ----------
    obj : function or class
        Of this package.

    Raises
    ------
    TypeError
        If Python knows no source for it.
    """
    from IPython.display import display

    lines = textwrap.dedent(inspect.getsource(obj)).rstrip().splitlines()
    node = ast.parse("\n".join(lines)).body[0]
    if ast.get_docstring(node) is not None:
        del lines[node.body[0].lineno - 1 : node.body[0].end_lineno]
    code = "\n".join(lines)
    display(
        {"text/markdown": f"```python\n{code}\n```", "text/plain": code},
        raw=True,
        metadata={"jepa": {"source": f"{obj.__module__}:{obj.__qualname__}"}},
    )
