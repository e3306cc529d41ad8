// The command on the software GPU: it ends badly for whatever a test there
// would fail for.
#include "tests/cuda/child_end.h"

int CommandMain(int argc, char** argv);  // cli/main.cc

int main(int argc, char** argv) {
  return tensorferry::testing::EndChild(CommandMain(argc, argv));
}
