// Runs the world of session_world.h for many seeds:
//
//   --seed=N [--trace]   replays one run, and prints what happens in it
//   --seeds=N            that many, from --first on
//   --expect_failure     some seed must break an invariant: for planted bugs
//
// Without these it runs its shard of 100,000 seeds.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "tests/simulation/session_world.h"

ABSL_FLAG(uint64_t, seed, 0, "replay this one");
ABSL_FLAG(uint64_t, first, 1, "the first seed");
ABSL_FLAG(uint64_t, seeds, 100000, "how many");
ABSL_FLAG(bool, trace, false, "print all that happens");
ABSL_FLAG(bool, expect_failure, false, "a planted bug must be found");

namespace tensorferry {
namespace simulation {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

void Add(const WorldReport& report, WorldReport& sum) {
  sum.opened += report.opened;
  sum.refused += report.refused;
  sum.drained += report.drained;
  sum.broken += report.broken;
  sum.crashes += report.crashes;
  sum.stops += report.stops;
  sum.cuts += report.cuts;
  sum.breaks += report.breaks;
  sum.sent_ok += report.sent_ok;
  sum.sent_failed += report.sent_failed;
}

// The seeds reach what they are there for.
bool Covers(const WorldReport& sum) {
  std::printf(
      "sessions: %d open, %d not; %d closed, %d broken; %d crashes, %d stops, "
      "%d cuts, %d breaks; messages: %d ok, %d not\n",
      sum.opened, sum.refused, sum.drained, sum.broken, sum.crashes, sum.stops,
      sum.cuts, sum.breaks, sum.sent_ok, sum.sent_failed);
  return sum.opened > 0 && sum.refused > 0 && sum.drained > 0 &&
         sum.broken > 0 && sum.crashes > 0 && sum.stops > 0 && sum.cuts > 0 &&
         sum.breaks > 0 && sum.sent_ok > 0 && sum.sent_failed > 0;
}

int Replay(uint64_t seed) {
  const WorldReport report = RunWorld(seed, absl::GetFlag(FLAGS_trace));
  std::printf(
      "seed %llu: %s\n", static_cast<unsigned long long>(seed),
      report.failure.empty() ? "all invariants held" : report.failure.c_str());
  return report.failure.empty() ? 0 : 1;
}

int RunAll() {
  const uint64_t shards = FromEnvironment("TEST_TOTAL_SHARDS", 1);
  const uint64_t shard = FromEnvironment("TEST_SHARD_INDEX", 0);
  if (const char* file = std::getenv("TEST_SHARD_STATUS_FILE")) {
    if (std::FILE* touched = std::fopen(file, "w")) std::fclose(touched);
  }
  const uint64_t first = absl::GetFlag(FLAGS_first);
  const uint64_t end = first + absl::GetFlag(FLAGS_seeds);
  WorldReport sum;
  for (uint64_t seed = first + shard; seed < end; seed += shards) {
    const WorldReport report = RunWorld(seed);
    if (!report.failure.empty()) {
      std::printf("%s\nreplay with --seed=%llu --trace\n",
                  report.failure.c_str(),
                  static_cast<unsigned long long>(seed));
      return 1;
    }
    Add(report, sum);
  }
  return Covers(sum) ? 0 : 1;
}

// A planted bug may as well end the process.
int ExpectFailure() {
  const pid_t child = fork();
  if (child == 0) _exit(RunAll());
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || status == 0) {
    std::printf("no seed found the planted bug\n");
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace simulation
}  // namespace tensorferry

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  using namespace tensorferry::simulation;
  if (absl::GetFlag(FLAGS_expect_failure)) return ExpectFailure();
  const uint64_t seed = absl::GetFlag(FLAGS_seed);
  return seed != 0 ? Replay(seed) : RunAll();
}
