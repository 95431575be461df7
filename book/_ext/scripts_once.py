"""Sphinx extension: every script once on every page.

Sphinx 7.4 lists scripts that have no file twice where an extension adds them late, as sphinx-thebe
does; its ``const`` may be declared only once, so every page would log an error.
"""


def _once(app, pagename, templatename, context, doctree):
    seen, scripts = set(), []
    for script in context.get("script_files", ()):
        key = (script.filename or "", tuple(sorted(script.attributes.items())))
        if key not in seen:
            seen.add(key)
            scripts.append(script)
    context["script_files"] = scripts


def setup(app):
    app.connect(
        "html-page-context", _once, priority=900
    )  # after those that add scripts to one page
    return {"parallel_read_safe": True, "parallel_write_safe": True}
