// tensorferry beside bare tensorpipe: the same bytes between the same two
// processes, over the same transport and channel, in turns. See
// docs/performance.md.
#include <benchmark/benchmark.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "benchmarks/two_process/contestant.h"
#include "benchmarks/two_process/receiver_process.h"
#include "benchmarks/two_process/sending_process.h"
#include "benchmarks/two_process/statistics.h"
#include "benchmarks/two_process/workload.h"

namespace tensorferry::benchmarks {
namespace {

struct Arguments {
  bool receiver = false;
  bool smoke = false;
  int busy = 0;  // processes beside them that never sleep
  std::string model;
};

// What all of one contestant's turns have shown.
struct Record {
  explicit Record(std::string contestant) : name(std::move(contestant)) {}

  std::string name;
  std::vector<double> seconds;                             // of every message
  std::vector<double> medians;                             // of every round
  std::vector<double> sender_cpu, receiver_cpu, switches;  // of every round
};

class TwoProcessBenchmark {
 public:
  TwoProcessBenchmark(Workload workload, std::string path, bool reuse)
      : workload_(std::move(workload)), path_(std::move(path)), reuse_(reuse) {}

  // One iteration is a round: a turn of each contestant, of which none is
  // always the first. Google Benchmark's own time is that of tensorferry with
  // digests, in the median of the round.
  void Run(benchmark::State& state, SendingProcess& process) {
    absl::Status status = process.Load(workload_.name);
    MakeRecords();
    if (status.ok()) status = Round(process, 0);  // warms up
    ClearRecords();
    size_t round = 0;
    for (auto _ : state) {
      if (status.ok()) status = Round(process, round++);
      state.SetIterationTime(status.ok() ? records_.back().medians.back() : 1);
    }
    if (!status.ok()) return state.SkipWithError(status.ToString().c_str());
    Report(state, static_cast<double>(process.contents().bytes));
  }

 private:
  void MakeRecords() {
    records_.clear();
    for (const Contestant& contestant : Contestants()) {
      if (contestant.only_many && workload_.tensors < 2) continue;
      if (contestant.leases && (path_ != "unix/local" || reuse_)) continue;
      records_.emplace_back(contestant.name);
    }
  }

  void ClearRecords() {
    for (Record& record : records_) record = Record(record.name);
  }

  absl::Status Round(SendingProcess& process, size_t round) {
    for (size_t i = 0; i < records_.size(); ++i) {
      Record& record = records_[(round + i) % records_.size()];
      FERRY_ASSIGN_OR_RETURN(
          Turn turn,
          process.TakeTurn(record.name, path_, reuse_, workload_.messages));
      record.medians.push_back(Median(turn.seconds));
      record.seconds.insert(record.seconds.end(), turn.seconds.begin(),
                            turn.seconds.end());
      record.sender_cpu.push_back(turn.sender.cpu_seconds);
      record.receiver_cpu.push_back(turn.receiver.cpu_seconds);
      record.switches.push_back(turn.sender.context_switches +
                                turn.receiver.context_switches);
    }
    return absl::OkStatus();
  }

  void Report(benchmark::State& state, double bytes) const {
    state.counters["bytes"] = bytes;
    state.counters["messages"] =
        static_cast<double>(records_[0].seconds.size());
    for (const Record& record : records_) {
      auto set = [&](const char* what, double value) {
        state.counters[absl::StrCat(record.name, ".", what)] = value;
      };
      const double p50 = Quantile(record.seconds, 0.5);
      set("p50_us", p50 * 1e6);
      set("p99_us", Quantile(record.seconds, 0.99) * 1e6);
      set("gb_per_s", bytes / p50 * 1e-9);
      set("sender_cpu_s_per_gb", Median(record.sender_cpu) / bytes * 1e9);
      set("receiver_cpu_s_per_gb", Median(record.receiver_cpu) / bytes * 1e9);
      set("context_switches", Median(record.switches));
      set("time_over_bare", OverFirst(record));
    }
  }

  // The median of the rounds' ratios: a slow moment of the machine slows both
  // sides of one round.
  double OverFirst(const Record& record) const {
    std::vector<double> ratios;
    for (size_t round = 0; round < record.medians.size(); ++round) {
      ratios.push_back(record.medians[round] / records_[0].medians[round]);
    }
    return Median(std::move(ratios));
  }

  const Workload workload_;
  const std::string path_;
  const bool reuse_;
  std::vector<Record> records_;
};

void RegisterOne(const Workload& workload, const std::string& path, bool reuse,
                 SendingProcess* process, bool* failed) {
  auto one = std::make_shared<TwoProcessBenchmark>(workload, path, reuse);
  const std::string name =
      absl::StrCat(path, "/", workload.name, reuse ? "/reuse" : "/fresh");
  benchmark::RegisterBenchmark(
      name.c_str(),
      [=](benchmark::State& state) {
        // After an error nobody knows what the connections still carry.
        if (*failed) return state.SkipWithError("an earlier one failed");
        one->Run(state, *process);
        *failed = state.error_occurred();
      })
      ->Iterations(workload.rounds)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

int RunSender(const Arguments& arguments) {
  auto process = SendingProcess::Start(arguments.model);
  if (!process.ok()) {
    std::fprintf(stderr, "%s\n", process.status().ToString().c_str());
    return 1;
  }
  bool failed = false;
  const auto& workloads = arguments.smoke ? SmokeWorkloads() : AllWorkloads();
  for (const Workload& workload : workloads) {
    for (const std::string& path : BenchmarkPaths()) {
      for (bool reuse : {false, true}) {
        RegisterOne(workload, path, reuse, process->get(), &failed);
      }
    }
  }
  const size_t ran = benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return failed || ran == 0 ? 1 : 0;
}

absl::StatusOr<Arguments> Parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--receiver") == 0) {
      arguments.receiver = true;
    } else if (std::strcmp(argv[i], "--smoke") == 0) {
      arguments.smoke = true;
    } else if (std::strcmp(argv[i], "--model") == 0 && i + 1 < argc) {
      arguments.model = argv[++i];
    } else if (std::strcmp(argv[i], "--busy") == 0 && i + 1 < argc &&
               absl::SimpleAtoi(argv[i + 1], &arguments.busy)) {
      ++i;
    } else {
      return absl::InvalidArgumentError(absl::StrCat(
          argv[i],
          ": usage: two_process --model FILE.safetensors [--smoke] "
          "[--busy PROCESSES] [--benchmark_...]"));
    }
  }
  return arguments;
}

// Until this process ends. To be called while it has one thread.
void StartBusyProcesses(int count) {
  for (int i = 0; i < count; ++i) {
    if (fork() != 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    volatile bool busy = true;
    while (busy) {
    }
  }
}

}  // namespace
}  // namespace tensorferry::benchmarks

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  auto arguments = tensorferry::benchmarks::Parse(argc, argv);
  if (!arguments.ok()) {
    std::fprintf(stderr, "%s\n", arguments.status().ToString().c_str());
    return 2;
  }
  if (arguments->receiver) {
    return tensorferry::benchmarks::RunReceiver(arguments->model);
  }
  tensorferry::benchmarks::StartBusyProcesses(arguments->busy);
  return tensorferry::benchmarks::RunSender(*arguments);
}
