"""Proof that the simulation can fail."""

load("@rules_cc//cc:defs.bzl", "cc_test")

def planted_bug_test(name, source, line, becomes):
    """Passes if the simulation finds a bug that is planted in `source`.

    Args:
      name: what goes wrong.
      source: label of one of the sources of :session_world.
      line: a regular expression; it matches one line of `source`.
      becomes: what stands there instead of the match.
    """
    native.genrule(
        name = name + "_source",
        testonly = True,
        srcs = [source],
        outs = [name + ".cc"],
        cmd = """
[[ $$(grep -c '{line}' $<) == 1 ]] || {{
  echo "{name}: '{line}' is not one line of $<" >&2
  exit 1
}}
sed 's|{line}|{becomes}|' $< > $@""".format(
            name = name,
            line = line,
            becomes = becomes,
        ),
    )

    # The planted source comes first, so that the library's is not linked.
    cc_test(
        name = name + "_is_found",
        size = "small",
        srcs = [
            name + ".cc",
            "session_simulation_test.cc",
        ],
        args = ["--expect_failure"],
        copts = ["-O2"],
        linkstatic = True,
        deps = [
            ":session_world",
            "//third_party/absl",
        ],
    )
