#include <ATen/ops/zeros.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/clock.h"
#include "base/machine_memory.h"
#include "base/status_macros.h"
#include "catalog/blocking.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/values.h"
#include "serialization/torch_errors.h"

namespace tensorferry::cli {
namespace {

constexpr int kLeastRounds = 5;
constexpr int kMostRounds = 1000;

struct Measured {
  uint64_t bytes = 0;                 // that each round moves
  std::vector<absl::Duration> times;  // sorted

  absl::Duration Quantile(double share) const {
    return times[static_cast<size_t>(share * (times.size() - 1) + 0.5)];
  }
  double GigabytesPerSecond() const {
    return bytes / absl::ToDoubleSeconds(Quantile(0.5)) / 1e9;
  }
};

// What one kind of round is measured with.
struct Round {
  std::string way;  // "send": there; "echo": there and back
  uint64_t size = 0;
  absl::Duration enough;  // no more rounds once they took this long
};

absl::StatusOr<at::Tensor> Zeros(uint64_t nbytes) {
  // A system that promises memory it has not would end this process instead.
  const uint64_t memory = MachineMemory();
  if (nbytes > memory) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "a tensor of ", nbytes, " bytes: this machine has ", memory));
  }
  return CatchTorchErrors(
      absl::StatusCode::kInternal,
      [nbytes] { return absl::StrCat("a tensor of ", nbytes, " bytes"); },
      [nbytes]() -> absl::StatusOr<at::Tensor> {
        return at::zeros({static_cast<int64_t>(nbytes)}, c10::kByte);
      });
}

absl::StatusOr<Measured> Measure(const Round& round, absl::Time deadline,
                                 const std::shared_ptr<Session>& session) {
  const bool and_back = round.way == "echo";
  FERRY_ASSIGN_OR_RETURN(const at::Tensor tensor, Zeros(round.size));
  Measured measured;
  measured.bytes = round.size * (and_back ? 2 : 1);
  absl::Duration total;
  // Round -1 warms caches and allocators up and does not count.
  for (int i = -1; i < kMostRounds; ++i) {
    if (i >= kLeastRounds && total >= round.enough) break;
    FERRY_ASSIGN_OR_RETURN(const absl::Duration time,
                           blocking::Echo(session, tensor, and_back,
                                          deadline - Clock::Real()->Now()));
    if (i < 0) continue;
    total += time;
    measured.times.push_back(time);
  }
  std::sort(measured.times.begin(), measured.times.end());
  return measured;
}

void Show(const Round& round, const Measured& measured, Output& output) {
  output.json()["results"].push_back(
      {{"way", round.way},
       {"size", round.size},
       {"rounds", measured.times.size()},
       {"gb_per_second", measured.GigabytesPerSecond()},
       {"p50_seconds", absl::ToDoubleSeconds(measured.Quantile(0.5))},
       {"p99_seconds", absl::ToDoubleSeconds(measured.Quantile(0.99))}});
  output.Print(absl::StrFormat(
      "%-6s%12s%9d%12.3f%14s%14s\n", round.way, ShowBytes(round.size),
      measured.times.size(), measured.GigabytesPerSecond(),
      ShowTime(measured.Quantile(0.5)), ShowTime(measured.Quantile(0.99))));
}

absl::Status Bench(const Arguments& arguments, Output& output) {
  FERRY_ASSIGN_OR_RETURN(
      const std::vector<uint64_t> sizes,
      SizesOf(arguments, "sizes", "1KiB,64KiB,1MiB,16MiB,256MiB"));
  FERRY_ASSIGN_OR_RETURN(const absl::Duration enough,
                         DurationOf(arguments, "time", absl::Seconds(1)));
  FERRY_ASSIGN_OR_RETURN(const absl::Duration limit,
                         DurationOf(arguments, "deadline", absl::Minutes(5)));
  const absl::Time deadline = Clock::Real()->Now() + limit;
  Offer offer;
  FERRY_ASSIGN_OR_RETURN(offer.digests, OnOffOf(arguments, "digest", true));
  if (arguments.Has("path")) offer.paths = {arguments.Get("path")};
  FERRY_ASSIGN_OR_RETURN(
      Connection connection,
      Connection::Open(arguments.positional(0), offer, limit, arguments));
  output.json()["results"] = Json::array();
  output.Print(absl::StrFormat("%-6s%12s%9s%12s%14s%14s\n", "way", "size",
                               "rounds", "GB/s", "p50", "p99"));
  for (const uint64_t size : sizes) {
    for (const char* way : {"send", "echo"}) {
      const Round round = {way, size, enough};
      FERRY_ASSIGN_OR_RETURN(const Measured measured,
                             Measure(round, deadline, connection.session()));
      Show(round, measured, output);
    }
  }
  connection.Close();
  return absl::OkStatus();
}

}  // namespace

Command BenchCommand() {
  return {
      "bench",
      "Measures the way to a peer: rates and latencies by size.",
      {"ADDRESS"},
      {{"sizes", "LIST",
        "Bytes of the tensors. Default: 1KiB,64KiB,1MiB,16MiB,256MiB."},
       {"time", "TIME", "How long to measure each. Default: 1s."},
       {"deadline", "TIME", "How long all may take. Default: 5m."},
       {"digest", "on|off", "As for pull. Default: on."},
       {"path", "NAME", "As for pull."}},
      "The peer must be one that serves. `send` is a tensor there and a short "
      "answer,\n`echo` the tensor there and back; GB/s is the bytes of both "
      "ways over the p50.\n\n"
      "  tensorferry bench 127.0.0.1:4750 --sizes 4KiB,1GiB --digest off\n",
      Bench};
}

}  // namespace tensorferry::cli
