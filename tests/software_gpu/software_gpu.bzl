"""Rules of the software GPU: tests that run on it, and its libraries."""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_import", "cc_test")

def software_gpu_cc_test(name, deps = [], **kwargs):
    """A cc_test on the software GPU; needs nothing from its environment.

    Args:
      name: of the test.
      deps: without the software GPU. Its libraries are found before NVIDIA's
        that libtorch brings along, because they come first here: the first
        library of a name is the one that the linker and the loader take.
      **kwargs: as for cc_test.
    """
    cc_test(
        name = name,
        deps = ["//tests/software_gpu"] + deps,
        **kwargs
    )

def nvidia_library(name, srcs = [], linkopts = [], stubs = True, **kwargs):
    """A shared library in the place of one of NVIDIA's.

    Args:
      name: the library's file name and SONAME, "libcudart.so.13".
      srcs: what is real in it.
      linkopts: as for cc_binary.
      stubs: whether it gets stubs for the functions that symbols.txt has, and
        exports these only.
      **kwargs: as for cc_binary.
    """
    linkopts = linkopts + ["-Wl,-soname," + name]
    additional_linker_inputs = []
    if stubs:
        source, version_script = name + ".stubs.c", name + ".map"
        native.genrule(
            name = name + "_stubs",
            testonly = True,
            srcs = [":checked_symbols"],
            outs = [source, version_script],
            cmd = "python3 $(execpath stub_library.py) %s $< $(OUTS)" % name,
            tools = ["stub_library.py"],
        )
        srcs = srcs + [source]
        additional_linker_inputs = [version_script]
        linkopts = linkopts + ["-Wl,--version-script=$(execpath %s)" % version_script]
    cc_binary(
        name = name,
        testonly = True,
        srcs = srcs,
        additional_linker_inputs = additional_linker_inputs,
        linkopts = linkopts,
        linkshared = True,
        **kwargs
    )
    cc_import(
        name = name + "_import",
        testonly = True,
        shared_library = name,
    )
