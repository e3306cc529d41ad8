"""The CUDA part of libtorch, from the same place as libtorch itself.

A repository of its own, as it is half a gigabyte that only CUDA's users need.
"""

load("//third_party:python_wheel.bzl", "fetch_wheel", "wheel_attrs")

_ROOT = "TENSORFERRY_LIBTORCH_ROOT"

_LIBRARIES = [
    "lib/libc10_cuda.so",
    "lib/libtorch_cuda.so",
    "lib/libtorch_nvshmem.so",
]

def _libtorch_cuda_repository_impl(rctx):
    rctx.symlink(rctx.attr._build_file, "BUILD.bazel")
    root = rctx.os.environ.get(_ROOT)
    built_with_cuda = True
    if not root:
        files = ["torch/" + library for library in _LIBRARIES]
        fetch_wheel(rctx, rctx.attr.torch, "torch/", files, ", or set %s to an installed libtorch" % _ROOT)
    else:
        built_with_cuda = all([rctx.path(root + "/" + library).exists for library in _LIBRARIES])
        rctx.symlink(root + "/lib", "lib")
    rctx.file("built_with_cuda.bzl", "BUILT_WITH_CUDA = %s\n" % built_with_cuda)

libtorch_cuda_repository = repository_rule(
    implementation = _libtorch_cuda_repository_impl,
    environ = [_ROOT],
    attrs = dict(
        wheel_attrs(),
        _build_file = attr.label(default = "//third_party/libtorch:libtorch_cuda.BUILD", allow_single_file = True),
        torch = attr.string(mandatory = True, doc = "A value of WHEELS."),
    ),
)
