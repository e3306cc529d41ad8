"""Repositories made of a wheel from PyPI, fetched by pip with a pinned hash."""

# An attribute's default, so that Bazel fetches anew when one of them changes.
_FETCH = "//third_party:fetch_wheel.py"
_LOCK = "//third_party:wheels.lock"

def fetch_wheel(rctx, distribution, strip_prefix, prefixes, instead = ""):
    """Unpacks the wheel's files under `prefixes` into this repository.

    Args:
      rctx: the repository's context; its rule has wheel_attrs().
      distribution: the name in wheels.lock.
      strip_prefix: what to cut from the front of the files' paths.
      prefixes: which files, by the beginning of their paths.
      instead: what else the user could do, for the error message.
    """
    python = rctx.which("python3")
    if not python or rctx.execute([python, "-m", "pip", "--version"]).return_code:
        fail("tensorferry needs `python3 -m pip` to fetch %s: install python3-pip%s." %
             (distribution, instead))
    rctx.report_progress("downloading %s" % distribution)
    result = rctx.execute(
        [python, rctx.path(rctx.attr._fetch), rctx.path(rctx.attr._lock), distribution, strip_prefix] + prefixes,
        timeout = 3600,
    )
    if result.return_code:
        fail("tensorferry could not fetch %s from PyPI (%s): check pip's configuration and the network%s." %
             (distribution, " / ".join(result.stderr.strip().split("\n")[-3:]), instead))

def wheel_attrs():
    return {
        "_fetch": attr.label(default = _FETCH, allow_single_file = True),
        "_lock": attr.label(default = _LOCK, allow_single_file = True),
    }

def _python_wheel_impl(rctx):
    rctx.symlink(rctx.attr.build_file, "BUILD.bazel")
    fetch_wheel(rctx, rctx.attr.distribution, rctx.attr.strip_prefix, rctx.attr.prefixes)

python_wheel = repository_rule(
    implementation = _python_wheel_impl,
    doc = "A wheel from wheels.lock as a repository.",
    attrs = dict(
        wheel_attrs(),
        build_file = attr.label(mandatory = True, allow_single_file = True),
        distribution = attr.string(mandatory = True),
        prefixes = attr.string_list(mandatory = True),
        strip_prefix = attr.string(),
    ),
)

def _python_site_impl(rctx):
    for distribution in rctx.attr.distributions:
        fetch_wheel(rctx, distribution, "", [""])
    rctx.file("BUILD.bazel", """
filegroup(
    name = "site",
    srcs = glob(["**"], exclude = ["BUILD.bazel", "WORKSPACE"]),
    visibility = ["//visibility:public"],
)

exports_files(["typing_extensions.py"])
""")

python_site = repository_rule(
    implementation = _python_site_impl,
    doc = "Wheels from wheels.lock side by side, as on a PYTHONPATH.",
    attrs = dict(
        wheel_attrs(),
        distributions = attr.string_list(mandatory = True),
    ),
)
