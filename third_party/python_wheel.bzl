"""Repositories made of wheels from PyPI, fetched by pip with pinned hashes."""

def fetch_wheel(rctx, requirement, strip_prefix, prefixes, instead = ""):
    """Unpacks the wheel's files under `prefixes` into this repository.

    Args:
      rctx: the repository's context; its rule has wheel_attrs().
      requirement: a value of WHEELS.
      strip_prefix: what to cut from the front of the files' paths.
      prefixes: which files, by the beginning of their paths.
      instead: what else the user could do, for the error message.
    """
    wheel = requirement.split(" ")[0]
    python = rctx.which("python3")
    if not python or rctx.execute([python, "-m", "pip", "--version"]).return_code:
        fail("tensorferry needs `python3 -m pip` to fetch %s: install python3-pip%s." % (wheel, instead))
    rctx.report_progress("downloading %s" % wheel)
    result = rctx.execute(
        [python, rctx.path(rctx.attr._fetch), requirement, strip_prefix] + prefixes,
        timeout = 3600,
    )
    if result.return_code:
        fail("tensorferry could not fetch %s from PyPI (%s): check pip's configuration and the network%s." %
             (wheel, " / ".join(result.stderr.strip().split("\n")[-3:]), instead))

def wheel_attrs():
    return {"_fetch": attr.label(default = "//third_party:fetch_wheel.py", allow_single_file = True)}

def _python_wheel_impl(rctx):
    rctx.symlink(rctx.attr.build_file, "BUILD.bazel")
    for requirement in rctx.attr.requirements:
        fetch_wheel(rctx, requirement, rctx.attr.strip_prefix, rctx.attr.prefixes)

python_wheel = repository_rule(
    implementation = _python_wheel_impl,
    doc = "Wheels, or parts of them, side by side in one repository.",
    attrs = dict(
        wheel_attrs(),
        build_file = attr.label(mandatory = True, allow_single_file = True),
        prefixes = attr.string_list(default = [""]),
        requirements = attr.string_list(mandatory = True, doc = "Values of WHEELS."),
        strip_prefix = attr.string(),
    ),
)
