"""Code in which edges of the order between streams can be left out."""

load("@rules_cc//cc:defs.bzl", "cc_binary")

def mutant(name, edge, file, find, replace, tests):
    """A row of the table: one edit of a source, and the tests that it fails.

    Args:
      name: of the mutant.
      edge: what comes after what, for people: the row's title.
      file: label of the source, which its package exports.
      find: what to replace; the build fails unless it is there exactly once.
      replace: by what, with MUTANT for whether this mutant is asked for: the
        program is the true code until it is.
      tests: "OrderTest.WhatIsSentIsMadeFirst": without their lags. All of them
        must fail, at each lag.

    Returns:
      the row, for mutants().
    """
    return struct(
        name = name,
        edge = edge,
        file = file,
        find = find,
        replace = replace.replace("MUTANT", "tensorferry::IsMutant(\"%s\")" % name),
        tests = tests,
    )

def mutants(name, rows, tests, deps):
    """A program with the tests and all mutants, and <name>.json, its table.

    An object comes before libraries, so the linker takes the functions of the
    edited sources and leaves the originals in their libraries. A library that
    is always linked (it registers something) must not be among them.

    Args:
      name: of the program.
      rows: of mutant().
      tests: a library (alwayslink) that brings no main.
      deps: what the tests and the edited sources need.
    """
    sources = []
    for file in {row.file: None for row in rows}:
        source = "%s_%s" % (name, file.split(":")[1])
        edits = [row for row in rows if row.file == file]
        native.genrule(
            name = source + "_edited",
            testonly = True,
            srcs = [file],
            outs = [source],
            cmd = "python3 $(execpath mutate.py) $< $@ " + _quoted(json.encode(edits)),
            tools = ["mutate.py"],
        )
        sources.append(source)
    cc_binary(
        name = name,
        testonly = True,
        srcs = sources,
        # The software GPU first, as software_gpu_cc_test explains.
        deps = ["//tests/software_gpu", ":mutant", tests] + deps + [
            "//third_party/googletest:main",
        ],
    )
    table = json.encode(struct(program = name, rows = rows))
    native.genrule(
        name = name + "_table",
        testonly = True,
        outs = [name + ".json"],
        cmd = "echo " + _quoted(table) + " > $@",
    )

# For the shell, and for Bazel's variables.
def _quoted(text):
    return "'" + text.replace("'", "'\\''").replace("$", "$$") + "'"
