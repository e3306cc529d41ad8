"""Stand-ins for the repositories that Bazel 4.2.3 wants to download itself.

Only for a workspace that builds with Debian's Bazel and no network beyond
Debian and PyPI; others declare the real ones before tensorferry_dependencies().
"""

# Where Debian's bazel-rules-* packages, which its Bazel depends on, put them.
_RULES = "/usr/share/bazel/rules/"

def _stand_in_impl(rctx):
    rctx.file("WORKSPACE", "")
    for path, content in rctx.attr.files.items():
        rctx.file(path, content, executable = path.endswith(".sh"))

_stand_in = repository_rule(
    implementation = _stand_in_impl,
    attrs = {"files": attr.string_dict(doc = "Path -> content.")},
)

def _debian_rules_impl(rctx):
    root = _RULES + rctx.attr.folder
    if not rctx.path(root).exists:
        fail("tensorferry needs Debian's bazel-rules-%s: install it." % rctx.attr.folder)
    for entry in rctx.path(root).readdir():
        rctx.symlink(entry, entry.basename)

_debian_rules = repository_rule(
    implementation = _debian_rules_impl,
    local = True,
    attrs = {"folder": attr.string(mandatory = True)},
)

_CC_RULES = [
    "cc_binary",
    "cc_import",
    "cc_library",
    "cc_proto_library",
    "cc_test",
    "cc_toolchain",
    "cc_toolchain_suite",
    "fdo_prefetch_hints",
    "fdo_profile",
    "objc_import",
    "objc_library",
]

def bazel_builtins():
    """Declares rules_cc, rules_java, rules_proto, rules_shell and remote_coverage_tools."""
    _stand_in(
        name = "rules_cc",
        files = {
            "BUILD.bazel": "",
            "cc/BUILD.bazel": "",
            "cc/defs.bzl": "\n".join(["%s = native.%s" % (rule, rule) for rule in _CC_RULES]),
        },
    )
    _stand_in(
        name = "rules_shell",
        files = {
            "BUILD.bazel": "",
            "shell/BUILD.bazel": "",
            "shell/sh_test.bzl": "sh_test = native.sh_test",
        },
    )
    _stand_in(
        name = "remote_coverage_tools",
        files = {
            "BUILD.bazel": "".join([
                'sh_binary(name = "%s", srcs = ["nothing.sh"], visibility = ["//visibility:public"])\n' % tool
                for tool in ["coverage_report_generator", "lcov_merger"]
            ]),
            "nothing.sh": "#!/bin/sh\n",
        },
    )
    _debian_rules(name = "rules_java", folder = "java")
    _debian_rules(name = "rules_proto", folder = "proto")
