#include "cli/stop_signal.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace tensorferry::cli {
namespace {

// How a process ends that gets `first`, then `second`, while it catches them.
int StatusAfter(int first, int second) {
  const pid_t child = fork();
  if (child == 0) {
    auto stop = StopSignal::Catch();
    if (!stop.ok()) _exit(1);
    raise(first);
    stop->Await();
    raise(second);
    _exit(0);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

TEST(StopSignalTest, TheFirstIsWaitedForAndTheSecondOfAnyKindEndsTheProcess) {
  for (int first : {SIGTERM, SIGINT}) {
    for (int second : {SIGTERM, SIGINT}) {
      const int status = StatusAfter(first, second);
      EXPECT_TRUE(WIFSIGNALED(status)) << first << ", " << second;
      EXPECT_EQ(WTERMSIG(status), second);
    }
  }
}

}  // namespace
}  // namespace tensorferry::cli
