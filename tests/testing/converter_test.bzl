"""The conformance test of a device converter, for whoever writes one."""

load("@rules_cc//cc:defs.bzl", "cc_test")

def ferry_converter_test(name, case, deps = [], **kwargs):
    """A test of all that DeviceConverter asks of the converter of a type.

    Args:
      name: of the test.
      case: a cc_library (testonly) that defines ConverterUnderTest(), which
        tests/testing/converter_case.h declares.
      deps: libraries that have to come first, such as a simulated driver.
      **kwargs: as for cc_test.
    """
    cc_test(
        name = name,
        deps = deps + [
            # Ahead of what defines its ConverterUnderTest, for static links.
            Label("//tests/testing:converter_suite"),
            case,
            Label("//third_party/googletest:main"),
        ],
        **kwargs
    )
