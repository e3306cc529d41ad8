// The main program of tests whose peers are processes of their own.
#include <gmock/gmock.h>
#include <signal.h>

#include "tests/reliability/peer_program.h"

int main(int argc, char** argv) {
  if (tensorferry::testing::IsPeerProgram(argc, argv)) {
    return tensorferry::testing::PeerProgram(argc, argv);
  }
  signal(SIGPIPE, SIG_IGN);  // the tests talk to processes that they killed
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
