// tensorpipe over our wires and over its own transports: the same messages
// between two processes, in turns. See docs/performance.md.
#include <dirent.h>

#include <cstdio>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "benchmarks/two_process/process_usage.h"
#include "benchmarks/two_process/statistics.h"
#include "benchmarks/wires/echo.h"
#include "benchmarks/wires/wires.h"
#include "tests/testing/child_process.h"

namespace tensorferry::benchmarks {
namespace {

using ::tensorferry::testing::ChildProcess;

struct Sizes {
  int rounds = 7, connects = 20, round_trips = 1000, transfers = 4;
  size_t large = size_t{256} << 20;
  absl::Duration idle = absl::Seconds(1);
};

Sizes SmokeSizes() {
  return {.rounds = 1,
          .connects = 2,
          .round_trips = 5,
          .transfers = 1,
          .large = size_t{1} << 20,
          .idle = absl::Milliseconds(1)};
}

int CountDescriptors() {
  int count = -3;  // ".", ".." and the folder's own
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

// ---- the process that answers

int RunServer(const std::string& wire) {
  auto end = ListenOnWire(wire);
  if (!end.ok()) {
    testing::WriteLine(absl::StrCat("error ", end.status().ToString()));
    return 1;
  }
  ServeEcho(**end);
  testing::WriteLine(absl::StrCat("url ", (*end)->url()));
  std::string line;
  while (std::getline(std::cin, line)) {  // asks what was used so far
    testing::WriteLine(
        absl::StrCat(ProcessUsage::Now().cpu_seconds, " ", CountDescriptors()));
  }
  return 0;
}

// ---- the process that asks and measures

// One value of each measurement for each round.
using Results = std::map<std::string, std::vector<double>>;

// A turn of one wire: both processes' ends are new, and gone afterwards.
class WireTurn {
 public:
  WireTurn(std::string wire, const Sizes& sizes,
           const std::vector<char>& memory)
      : wire_(std::move(wire)), sizes_(sizes), memory_(memory) {}

  absl::Status Run(Results& results) {
    FERRY_RETURN_IF_ERROR(Start());
    FERRY_RETURN_IF_ERROR(Connects(results));
    FERRY_RETURN_IF_ERROR(RoundTrips(1 << 10, "1 KiB round trip, us", results));
    FERRY_RETURN_IF_ERROR(
        RoundTrips(64 << 10, "64 KiB round trip, us", results));
    FERRY_RETURN_IF_ERROR(RoundTripsOfCallbacks(results));
    FERRY_RETURN_IF_ERROR(Transfers(results));
    FERRY_RETURN_IF_ERROR(Idle(results));
    clients_.clear();
    end_ = nullptr;
    child_->CloseInput();
    if (int code = child_->Wait(); code != 0) {
      return absl::InternalError(absl::StrCat("the echo ended with ", code));
    }
    return absl::OkStatus();
  }

 private:
  struct Used {
    double cpu_seconds = 0;
    int descriptors = 0;
  };

  absl::Status Start() {
    FERRY_ASSIGN_OR_RETURN(ChildProcess child,
                           ChildProcess::Start({"--serve", wire_}));
    child_ = std::make_unique<ChildProcess>(std::move(child));
    FERRY_ASSIGN_OR_RETURN(const std::string line, child_->ReadLine());
    if (line.rfind("url ", 0) != 0) return absl::UnavailableError(line);
    FERRY_ASSIGN_OR_RETURN(end_, DialWire(wire_, line.substr(4)));
    return Connect();
  }

  // A new pipe, until its first answer.
  absl::Status Connect() {
    clients_.push_back(std::make_unique<EchoClient>(
        *end_, clients_.empty() ? sizes_.large : 1024));
    return clients_.back()->Ask(kEcho, memory_, 1, /*check=*/true);
  }

  absl::StatusOr<Used> TheirUse() {
    FERRY_RETURN_IF_ERROR(child_->WriteLine("used"));
    FERRY_ASSIGN_OR_RETURN(const std::string line, child_->ReadLine());
    std::vector<std::string> words = absl::StrSplit(line, ' ');
    Used used;
    if (words.size() == 2 && absl::SimpleAtod(words[0], &used.cpu_seconds) &&
        absl::SimpleAtoi(words[1], &used.descriptors)) {
      return used;
    }
    return absl::InternalError(absl::StrCat("what is '", line, "'?"));
  }

  absl::Status Connects(Results& results) {
    FERRY_ASSIGN_OR_RETURN(const Used before, TheirUse());
    const int own = CountDescriptors();
    std::vector<double> times;
    for (int i = 0; i < sizes_.connects; ++i) {
      const absl::Time start = absl::Now();
      FERRY_RETURN_IF_ERROR(Connect());
      times.push_back(absl::ToDoubleMicroseconds(absl::Now() - start));
    }
    FERRY_ASSIGN_OR_RETURN(const Used after, TheirUse());
    results["connect and first message, us"].push_back(Median(times));
    results["descriptors a pipe, dialing"].push_back(
        static_cast<double>(CountDescriptors() - own) / sizes_.connects);
    results["descriptors a pipe, accepting"].push_back(
        static_cast<double>(after.descriptors - before.descriptors) /
        sizes_.connects);
    return absl::OkStatus();
  }

  absl::Status RoundTrips(size_t bytes, const std::string& name,
                          Results& results) {
    std::vector<double> times;
    for (int i = -sizes_.round_trips / 10; i < sizes_.round_trips; ++i) {
      const absl::Time start = absl::Now();
      FERRY_RETURN_IF_ERROR(
          clients_[0]->Ask(kEcho, memory_, bytes, /*check=*/i < 0));
      if (i >= 0) {
        times.push_back(absl::ToDoubleMicroseconds(absl::Now() - start));
      }
    }
    results[name].push_back(Median(times));
    results[absl::StrCat(name, " (p99)")].push_back(Quantile(times, 0.99));
    return absl::OkStatus();
  }

  absl::Status RoundTripsOfCallbacks(Results& results) {
    FERRY_ASSIGN_OR_RETURN(
        const std::vector<absl::Duration> durations,
        clients_[0]->AskFromCallbacks(memory_, 1 << 10, sizes_.round_trips));
    std::vector<double> times;
    for (absl::Duration time : durations) {
      times.push_back(absl::ToDoubleMicroseconds(time));
    }
    results["1 KiB round trip from callbacks, us"].push_back(Median(times));
    return absl::OkStatus();
  }

  // One way, into memory that was touched before.
  absl::Status Transfers(Results& results) {
    std::vector<double> rates;
    FERRY_RETURN_IF_ERROR(
        clients_[0]->Ask(kEcho, memory_, sizes_.large, /*check=*/true));
    FERRY_ASSIGN_OR_RETURN(const Used before, TheirUse());
    const double own = ProcessUsage::Now().cpu_seconds;
    for (int i = 0; i < sizes_.transfers; ++i) {
      const absl::Time start = absl::Now();
      FERRY_RETURN_IF_ERROR(
          clients_[0]->Ask(kTake, memory_, sizes_.large, /*check=*/false));
      rates.push_back(sizes_.large / 1e9 /
                      absl::ToDoubleSeconds(absl::Now() - start));
    }
    const double cpu = ProcessUsage::Now().cpu_seconds - own;
    FERRY_ASSIGN_OR_RETURN(const Used after, TheirUse());
    results["large, GB/s"].push_back(Median(rates));
    results["large, CPU s/GB, both"].push_back(
        (cpu + after.cpu_seconds - before.cpu_seconds) /
        (sizes_.large / 1e9 * sizes_.transfers));
    return absl::OkStatus();
  }

  // All pipes are open, and nothing happens.
  absl::Status Idle(Results& results) {
    FERRY_ASSIGN_OR_RETURN(const Used before, TheirUse());
    const double own = ProcessUsage::Now().cpu_seconds;
    absl::SleepFor(sizes_.idle);
    const double cpu = ProcessUsage::Now().cpu_seconds - own;
    FERRY_ASSIGN_OR_RETURN(const Used after, TheirUse());
    const double seconds = absl::ToDoubleSeconds(sizes_.idle);
    results["idle, cores, dialing"].push_back(cpu / seconds);
    results["idle, cores, accepting"].push_back(
        (after.cpu_seconds - before.cpu_seconds) / seconds);
    return absl::OkStatus();
  }

  const std::string wire_;
  const Sizes& sizes_;
  const std::vector<char>& memory_;
  std::unique_ptr<ChildProcess> child_;
  std::unique_ptr<WireEnd> end_;
  std::vector<std::unique_ptr<EchoClient>> clients_;  // [0] is measured
};

std::string Shown(double value) {
  return value >= 100 ? absl::StrFormat("%.0f", value)
                      : absl::StrFormat("%.3g", value);
}

// Medians over rounds, and in brackets the median over rounds of the ratio to
// uv in the same round.
void PrintTable(const std::map<std::string, Results>& all) {
  std::string header = "| |", line = "| --- |";
  for (const std::string& wire : AllWires()) {
    absl::StrAppend(&header, " ", wire, " |");
    absl::StrAppend(&line, " --- |");
  }
  std::cout << header << "\n" << line << "\n";
  for (const auto& [name, uv] : all.at("uv")) {
    std::cout << "| " << name << " |";
    for (const std::string& wire : AllWires()) {
      const std::vector<double>& values = all.at(wire).at(name);
      std::vector<double> ratios;
      for (size_t i = 0; i < uv.size(); ++i) {
        if (uv[i] != 0) ratios.push_back(values[i] / uv[i]);
      }
      std::cout << " " << Shown(Median(values));
      if (wire != "uv" && !ratios.empty()) {
        std::cout << " (" << Shown(Median(ratios)) << ")";
      }
      std::cout << " |";
    }
    std::cout << "\n";
  }
}

absl::Status RunAll(const Sizes& sizes, bool json) {
  std::vector<char> memory(sizes.large);
  for (size_t i = 0; i < memory.size(); ++i) {
    memory[i] = static_cast<char>(i * 31 + (i >> 8));
  }
  std::map<std::string, Results> all;
  for (int round = 0; round < sizes.rounds; ++round) {
    for (size_t i = 0; i < AllWires().size(); ++i) {
      // None is always the first.
      const std::string wire = AllWires()[(round + i) % AllWires().size()];
      absl::Status status = WireTurn(wire, sizes, memory).Run(all[wire]);
      if (!status.ok()) {
        return absl::Status(status.code(),
                            absl::StrCat(wire, ": ", status.message()));
      }
    }
    std::fprintf(stderr, "round %d of %d\n", round + 1, sizes.rounds);
  }
  if (json) {
    std::cout << nlohmann::json(all).dump(2) << "\n";
  } else {
    PrintTable(all);
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Sizes sizes;
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--serve") == 0 && i + 1 < argc) {
      return RunServer(argv[i + 1]);
    }
    if (std::strcmp(argv[i], "--smoke") == 0) {
      sizes = SmokeSizes();
    } else if (std::strcmp(argv[i], "--json") == 0) {
      json = true;
    } else {
      std::fprintf(stderr, "usage: wires [--smoke] [--json]\n");
      return 2;
    }
  }
  absl::Status status = RunAll(sizes, json);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}

}  // namespace
}  // namespace tensorferry::benchmarks

int main(int argc, char** argv) {
  return tensorferry::benchmarks::Main(argc, argv);
}
