"""Compare a planned command line with the options that an installed script really declares.

Runs wherever the script is: standard library only, Python 3.8 syntax, imports nothing of tritondeck.
The script is parsed and never run. With `--folder` the folder that upstream will empty is looked at
as well: it may hold nothing, or must carry our mark.

    check_flags.py --script FILE --plan FILE --result FILE [--folder DIR]
                   [--package NAME [--listed FILE:NAME]] -- WORD…

With `--package` the script is a file of that installed package, which is found and not imported;
`--listed` is a list of names in another file of it, each of which its script makes an option of.

`--plan` is a JSON file {"script": …, "generation": …, "defaults": {flag: value the plan relies on}}.
Exit codes: 0 all fits, 1 something does not (the lines say what), 2 wrong usage.
"""

import argparse
import ast
import importlib.util
import json
import re
import sys
from pathlib import Path

MARK = ".tritondeck-engine"
NUMBER = re.compile(r"-\d")


def value_of(node):
    """A literal's value, else its name (``str``), else None."""
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return node.id if isinstance(node, ast.Name) else None


def declared(source):
    """Every ``add_argument`` call: a list of options, in the order of the script."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr != "add_argument":
            continue
        words = [value_of(word) for word in node.args]
        flags = [word for word in words if isinstance(word, str) and word.startswith("-")]
        given = {word.arg: value_of(word.value) for word in node.keywords if word.arg}
        if not flags:
            continue
        action, choices = given.get("action"), given.get("choices")
        if not isinstance(choices, (list, tuple)):
            choices = ()  # none, or a name: what it stands for is not known
        found.append(
            {
                "flags": flags,
                "name": next((flag for flag in flags if flag.startswith("--")), flags[0]),
                "switch": action in ("store_true", "store_false"),
                "type": given.get("type"),
                "choices": [str(choice) for choice in choices],
                "nargs": given.get("nargs"),
                "default": given.get("default"),
                "required": given.get("required") is True,
                "line": node.lineno,
            }
        )
    return sorted(found, key=lambda option: option["line"])


def listed(source, name):
    """Options with the names in the list `name` of a module; their values are not known from it."""
    for node in ast.walk(ast.parse(source)):
        targets = [target.id for target in getattr(node, "targets", ()) if hasattr(target, "id")]
        if isinstance(node, ast.Assign) and name in targets:
            return [
                {
                    "flags": ["--" + word],
                    "name": "--" + word,
                    "switch": False,
                    "type": None,
                    "choices": [],
                    "nargs": None,
                    "default": None,
                    "required": False,
                    "line": node.lineno,
                }
                for word in ast.literal_eval(node.value)
            ]
    raise ValueError("it has no list %s" % name)


def installed(package, file):
    """Where `file` of an installed package is; the package is not imported."""
    spec = importlib.util.find_spec(package) if package else None
    places = list(spec.submodule_search_locations or []) if spec else []
    if package and not places:
        raise OSError(2, "the package %s is not installed" % package)
    return Path(places[0], file) if places else Path(file)


def given_words(argv):
    """Flags of a command line, each with the values behind it."""
    found = []
    for word in argv:
        if word.startswith("-") and word != "-" and not NUMBER.match(word):
            flag, equals, value = word.partition("=")
            found.append((flag, [value] if equals else []))
        elif found:
            found[-1][1].append(word)
    return found


def wrong_values(option, values):
    """What is wrong with the values of one flag, or None."""
    if option["switch"]:
        return "takes no value" if values else None
    if not values and option["nargs"] not in ("?", "*"):
        return "needs a value"
    if len(values) > 1 and option["nargs"] in (None, "?"):
        return "takes one value, and %d are given" % len(values)
    for value in values:
        if option["type"] == "bool" and value != "True":
            return "any text counts as true, %s as well" % value
        if option["choices"] and value not in option["choices"]:
            return "%s is not among %s" % (value, ", ".join(option["choices"]))
        if option["type"] in ("int", "float"):
            try:
                float(value) if option["type"] == "float" else int(value)
            except ValueError:
                return "%s is not of type %s" % (value, option["type"])
    return None


def compare(argv, options, defaults):
    """Pairs (failed, sentence) of everything that differs."""
    by_flag = {flag: option for option in options for flag in option["flags"]}
    said = set()
    for flag, values in given_words(argv):
        option = by_flag.get(flag)
        if option is None:
            yield True, "there is no flag %s here" % flag
            continue
        said.add(option["name"])
        problem = wrong_values(option, values)
        if problem:
            yield True, "line %d: %s: %s" % (option["line"], flag, problem)
    for option in options:
        name, line = option["name"], option["line"]
        if name in said:
            continue
        if option["required"]:
            yield True, "line %d: %s is required, and the plan does not give it" % (line, name)
        elif name in defaults and not option["switch"] and option["default"] != defaults[name]:
            shown = (line, name, option["default"], defaults[name])
            yield False, "line %d: %s has the default %s here, and %s was expected" % shown


def folder_problem(folder):
    """Why `folder` must not be emptied, or cannot be; None where it may. An empty one gets our mark."""
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        names = [found.name for found in place.iterdir()]
        if not names:
            said = "made by tritondeck: the folder engine beside this file may be emptied\n"
            (place / MARK).write_text(said, encoding="utf-8")
    except OSError as error:
        return "%s is no folder that can be built in: %s" % (folder, error.strerror)
    if names and MARK not in names:
        return "%s holds %d things that are not ours, and upstream would empty it" % (
            folder,
            len(names),
        )
    return None


def write(path, document):
    """JSON, atomically; the folder is made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(path + ".part")
    temporary.write_text(json.dumps(document), encoding="utf-8")
    temporary.replace(path)


def main(argv):
    parser = argparse.ArgumentParser(description="compare planned flags with a script")
    parser.add_argument("--script", default="")
    parser.add_argument("--plan", required=True)
    parser.add_argument("--result", required=True)
    parser.add_argument("--folder", default="")
    parser.add_argument("--package", default="")
    parser.add_argument("--listed", default="")
    parser.add_argument("words", nargs="*")
    args = parser.parse_args(argv)
    plan = json.loads(Path(args.plan).read_text(encoding="utf-8"))
    found = []
    if args.script:
        try:
            source = installed(args.package, args.script).read_text(encoding="utf-8")
            options = declared(source)
            if args.listed:
                file, _, name = args.listed.partition(":")
                source = installed(args.package, file).read_text(encoding="utf-8")
                options += listed(source, name)
            found += compare(args.words, options, plan.get("defaults", {}))
        except OSError as error:
            found.append((True, "cannot read %s: %s" % (args.script, error.strerror)))
        except (SyntaxError, ValueError) as error:
            found.append((True, "%s is no Python that can be read: %s" % (args.script, error)))
    problem = folder_problem(args.folder) if args.folder else None
    if problem:
        found.append((True, problem))
    for failed, sentence in found:
        print("[tritondeck] %s %s" % ("fail" if failed else "warn", sentence), flush=True)
    failures = [sentence for failed, sentence in found if failed]
    shown = args.script or "the classes"
    if not failures:
        print("[tritondeck] pass %s takes what is planned" % shown, flush=True)
    write(args.result, {"script": shown, "failures": len(failures), "lines": failures})
    if failures:
        print(
            "%s (generation %s) does not take what is planned: %s"
            % (shown, plan.get("generation", "?"), failures[0]),
            flush=True,
        )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
