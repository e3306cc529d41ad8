"""Tests of //cuda that run on either kind of GPU."""

load("@rules_cc//cc:defs.bzl", "cc_test")

def gpu_cc_test(name, deps = [], tags = [], **kwargs):
    """A cc_test on the software GPU, or on the machine's under --config=gpu.

    Args:
      name: of the test.
      deps: without the GPU, which brings tests/cuda/gpu_fixture.h.
      tags: besides "gpu", by which --config=gpu finds it.
      **kwargs: as for cc_test.
    """
    cc_test(
        name = name,
        # First, as software_gpu_cc_test explains.
        deps = ["//tests/cuda:gpu"] + deps,
        tags = tags + ["gpu"],
        **kwargs
    )
