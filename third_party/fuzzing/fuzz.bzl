"""Fuzz targets, replayed over their corpus as ordinary tests.

    ferry_fuzz_test(
        name = "manifest_fuzz",
        srcs = ["manifest_fuzz.cc"],  # defines LLVMFuzzerTestOneInput
        corpus = glob(["corpus/**"]),
        deps = ["//serialization"],
    )

`bazel test` runs it once on each file of the corpus; `tools/fuzz 60 manifest`
fuzzes it for a minute, with clang.
"""

load("@rules_cc//cc:defs.bzl", "cc_test")

_FUZZING = "//third_party/fuzzing"

def ferry_fuzz_test(name, srcs, corpus, deps = [], **kwargs):
    """A test that replays the corpus, or with --config=fuzz a fuzzer.

    Args:
      name: the test.
      srcs: sources; one defines LLVMFuzzerTestOneInput.
      corpus: files with one input each.
      deps: what the sources need.
      **kwargs: as for cc_test.
    """
    cc_test(
        name = name,
        srcs = srcs,
        # A fuzzer is told its folders by the one who runs it.
        args = select({
            _FUZZING: [],
            "//conditions:default": ["$(rootpath %s)" % file for file in corpus],
        }),
        data = corpus,
        linkopts = select({
            _FUZZING: ["-fsanitize=fuzzer"],
            "//conditions:default": [],
        }),
        deps = deps + select({
            _FUZZING: [],
            "//conditions:default": ["//third_party/fuzzing:replay"],
        }),
        **kwargs
    )
