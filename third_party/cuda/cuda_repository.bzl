"""The CUDA runtime, from NVIDIA's wheels or from TENSORFERRY_CUDA_ROOT."""

load("//third_party:python_wheel.bzl", "fetch_wheel", "wheel_attrs")

_ROOT = "TENSORFERRY_CUDA_ROOT"
_LIB_DIRS = ["lib64", "lib", "targets/x86_64-linux/lib", "extras/CUPTI/lib64"]

def _link_library(rctx, root, name):
    for folder in _LIB_DIRS:
        if rctx.path("%s/%s/%s" % (root, folder, name)).exists:
            # The soname is what libtorch will look for.
            return rctx.symlink("%s/%s/%s" % (root, folder, name), "lib/" + name)
    fail("%s=%s has no %s: set it to a CUDA 13 toolkit with CUPTI." % (_ROOT, root, name))

def _cuda_repository_impl(rctx):
    rctx.symlink(rctx.attr._build_file, "BUILD.bazel")
    root = rctx.os.environ.get(_ROOT)
    if not root:
        instead = ", or set %s to an installed CUDA toolkit" % _ROOT
        fetch_wheel(
            rctx,
            rctx.attr.runtime,
            "nvidia/cu13/",
            ["nvidia/cu13/include/", "nvidia/cu13/lib/libcudart.so.13"],
            instead,
        )
        fetch_wheel(rctx, rctx.attr.cupti, "nvidia/cu13/", ["nvidia/cu13/lib/libcupti.so.13"], instead)
        return
    if not rctx.path(root + "/include/cuda_runtime_api.h").exists:
        fail("%s=%s has no include/cuda_runtime_api.h: set it to an installed CUDA toolkit." % (_ROOT, root))
    rctx.symlink(root + "/include", "include")
    _link_library(rctx, root, "libcudart.so.13")
    _link_library(rctx, root, "libcupti.so.13")

cuda_repository = repository_rule(
    implementation = _cuda_repository_impl,
    environ = [_ROOT],
    attrs = dict(
        wheel_attrs(),
        _build_file = attr.label(default = "//third_party/cuda:cuda.BUILD", allow_single_file = True),
        cupti = attr.string(mandatory = True, doc = "A value of WHEELS."),
        runtime = attr.string(mandatory = True, doc = "A value of WHEELS."),
    ),
)
